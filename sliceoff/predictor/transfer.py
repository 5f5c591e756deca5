"""Taking a fitted forecaster to another trace: other regions, other windows, another scale."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from sliceoff import checkpoint
from sliceoff.errors import InputError
from sliceoff.predictor.forecaster import Forecaster


class Transferred(NamedTuple):
    """What became of one tensor."""

    name: str
    how: Literal["loaded", "adapted", "left out", "new"]
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None

    def __str__(self) -> str:
        sizes = self.before if self.before == self.after else f"{self.before} -> {self.after}"
        return f"{self.how:8} {self.name} {sizes}"


def transferred(content: Mapping[str, Any], **sizes: int | float) -> tuple[Forecaster, list[Transferred]]:
    """A forecaster built as the one in a checkpoint, for data of other sizes, with its weights as far as they go.

    Statistics of the scaler are not taken over: they belong to a trace.

    Args:
        content: of the checkpoint (`sliceoff.checkpoint.read`).
        sizes: arguments of `Forecaster` to replace, such as `n_regions`, `input_length`, `horizon`.

    Returns:
        The forecaster, and what became of every tensor of its network.
    """
    forecaster = untrained(content, **sizes)
    saved = {
        name.removeprefix("network."): value
        for name, value in content["state_dict"].items()
        if name.startswith("network.")
    }
    own = forecaster.network.state_dict()
    report = list(_compared(saved, own))
    taken = {
        line.name: saved[line.name] if line.how == "loaded" else resized(saved[line.name], own[line.name].shape)
        for line in report
        if line.how in ("loaded", "adapted")
    }
    forecaster.network.load_state_dict({**own, **taken})
    return forecaster, report


def untrained(content: Mapping[str, Any], **sizes: int | float) -> Forecaster:
    """A new forecaster of the same options as a checkpoint's.

    Raises:
        InputError: the checkpoint holds no forecaster, or one without weights that gradients could tune.
    """
    spec = content["spec"]
    saved = checkpoint.build(spec)
    if not isinstance(saved, Forecaster) or not saved.by_gradient:
        raise InputError(f"init.checkpoint holds a {spec['class']} with nothing to tune; give a trained predictor's")
    return cast(Forecaster, checkpoint.build({**spec, "arguments": {**spec["arguments"], **sizes}}))


def _compared(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[Transferred]:
    for name in (*own, *(name for name in saved if name not in own)):
        before, after = (tuple(part[name].shape) if name in part else None for part in (saved, own))
        if before is None:
            yield Transferred(name, "new", before, after)
        elif before == after:
            yield Transferred(name, "loaded", before, after)
        elif after is not None and len(before) == len(after):
            yield Transferred(name, "adapted", before, after)
        else:
            yield Transferred(name, "left out", before, after)


def resized(weight: Shaped[Tensor, "*before"], shape: Sequence[int]) -> Shaped[Tensor, "*after"]:
    """`weight` interpolated linearly along every axis whose length differs: steps of a window, or regions.

    >>> resized(torch.tensor([0.0, 1.0]), [3])
    tensor([0.0000, 0.5000, 1.0000])
    """
    for axis, length in enumerate(shape):
        if weight.shape[axis] != length:
            moved = weight.movedim(axis, -1)
            flat = moved.reshape(1, -1, moved.shape[-1]).double()
            wider = F.interpolate(flat, size=length, mode="linear", align_corners=True).to(weight.dtype)
            weight = wider.reshape(*moved.shape[:-1], length).movedim(-1, axis)
    return weight.contiguous()
