"""Transfer a fitted forecaster's weights to other data: other regions, windows or scale."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal, NamedTuple, cast

import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sliceoff import checkpoint
from sliceoff.errors import InputError
from sliceoff.predictor.export import Exported, example
from sliceoff.predictor.forecaster import Forecaster
from sliceoff.predictor.sizes import Sizes


class Transferred(NamedTuple):
    """What `transferred` did with one tensor of the network, and its shape before and after (None: not there)."""

    name: str
    how: Literal["loaded", "adapted", "left out", "new"]
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None

    def __str__(self) -> str:
        sizes = self.before if self.before == self.after else f"{self.before} -> {self.after}"
        return f"{self.how:8} {self.name} {sizes}"


def transferred(content: Mapping[str, Any], **data: Any) -> tuple[Forecaster, list[Transferred]]:
    """Build the forecaster of a checkpoint for other data, with its weights loaded or adapted wherever they fit.

    The scaler's statistics are not transferred: they belong to a trace. A buffer of another shape is left out, as
    it may hold indices: the new network keeps its own. Buffers of a part that has a method `solve` are weights.

    Args:
        content: the checkpoint, as from `sliceoff.checkpoint.read`.
        data: arguments of `Forecaster` to replace, such as `n_regions`, `input_length`, `horizon`.

    Returns:
        The forecaster, and what was done with every tensor of its network and its loss.

    Raises:
        InputError: the checkpoint holds no forecaster, or one without trainable weights.
    """
    before, forecaster = _saved(content), _rebuilt(content, data)
    if any(map(is_lazy, forecaster.network.state_dict().values())):
        Exported(forecaster.eval())(*example(forecaster, 1))  # lazy layers take their shapes from their first input
    saved = checkpoint.weights_of(content, "network")
    own, taken, report = forecaster.network.state_dict(), dict[str, Tensor](), list[Transferred]()
    weights = _weights(forecaster.network)
    for name in (*own, *(name for name in saved if name not in own)):
        old, new = saved.get(name), own.get(name)
        how: Literal["loaded", "adapted", "left out", "new"] = "left out"
        if old is None:
            how = "new"
        elif new is not None and old.shape == new.shape:
            how, taken[name] = "loaded", old
        elif name in weights and (fitting := adapted(old, own[name].shape, before.sizes, forecaster.sizes)) is not None:
            how, taken[name] = "adapted", fitting
        report.append(
            Transferred(name, how, *(None if tensor is None else tuple(tensor.shape) for tensor in (old, new)))
        )
    forecaster.network.load_state_dict({**own, **taken})
    loss = checkpoint.weights_of(content, "loss")
    forecaster.loss.load_state_dict(loss)  # which is made without the data's sizes
    for name, weight in loss.items():
        shape = tuple(weight.shape)
        report.append(Transferred(f"loss.{name}", "loaded", shape, shape))
    return forecaster, report


def untrained(content: Mapping[str, Any], **data: Any) -> Forecaster:
    """A new forecaster with a checkpoint's options and fresh weights; arguments and errors as for `transferred`."""
    _saved(content)
    return _rebuilt(content, data)


def _weights(network: nn.Module) -> set[str]:
    """The names of what a network learns, by gradient or in closed form (`Forecaster`), in its `state_dict`."""
    solved = [(place, part) for place, part in network.named_modules() if hasattr(part, "solve")]
    found = {name for place, part in solved for name, _ in part.named_buffers(place, recurse=False)}
    return found | {name for name, _ in network.named_parameters(remove_duplicate=False)}


def _saved(content: Mapping[str, Any]) -> Forecaster:
    """A checkpoint's forecaster, built without its weights, after a check that it can be tuned."""
    saved = checkpoint.build(content["spec"])
    if not isinstance(saved, Forecaster) or not saved.by_gradient:
        kind = content["spec"]["class"]
        raise InputError(f"init.checkpoint holds a {kind} with nothing to tune; give a trained predictor's")
    return saved


def _rebuilt(content: Mapping[str, Any], data: Mapping[str, Any]) -> Forecaster:
    spec = content["spec"]
    return cast(Forecaster, checkpoint.build({**spec, "arguments": {**spec["arguments"], **data}}))


# What an axis of a weight may run over, the last varying fastest: outputs (axis 0 in torch's layers), or inputs.
_OUTPUTS: tuple[tuple[str, ...], ...] = (
    ("horizon", "n_channels", "n_outputs"),
    ("horizon", "n_channels"),
    ("horizon", "n_outputs"),
    ("horizon",),
    ("n_channels", "n_outputs"),
    ("n_channels",),
)
_INPUTS: tuple[tuple[str, ...], ...] = (("input_length", "n_channels"), ("input_length",), ("n_channels",))


def adapted(
    weight: Shaped[Tensor, "*before"], shape: Sequence[int], before: Sizes, after: Sizes
) -> Shaped[Tensor, "*after"] | None:
    """A layer's weight for data of other sizes; None if an axis that differs is neither over steps nor over channels.

    Weights are interpolated along steps and channels. Those of inputs are also scaled by old length over new, so that
    the output for a constant history stays about the same.
    """
    for axis, length in enumerate(shape if len(shape) == weight.dim() else ()):
        held = weight.shape[axis]
        if held == length:
            continue
        runs_over = _INPUTS if axis else _OUTPUTS
        lengths = [tuple((getattr(before, name), getattr(after, name)) for name in names) for names in runs_over]
        pairs = next((p for p in lengths if (prod(a for a, _ in p), prod(b for _, b in p)) == (held, length)), None)
        if pairs is None:
            return None
        parts = weight.unflatten(axis, [a for a, _ in pairs])
        wanted = [*weight.shape[:axis], *(b for _, b in pairs), *weight.shape[axis + 1 :]]
        weight = resized(parts, wanted).flatten(axis, axis + len(pairs) - 1)
        if axis:
            weight = weight * (held / length)
    return weight if weight.shape == tuple(shape) else None


def resized(weight: Shaped[Tensor, "*before"], shape: Sequence[int]) -> Shaped[Tensor, "*after"]:
    """`weight` interpolated linearly along every axis whose length differs.

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
