"""The mean of several fitted forecasters."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff import checkpoint
from sliceoff.checks import listed
from sliceoff.data import Window
from sliceoff.errors import OptionError
from sliceoff.predictor.forecaster import Forecaster, unsuited
from sliceoff.predictor.sizes import Sizes


class Ensemble(Forecaster):
    """Forecasts the mean of its members' forecasts (quantiles: of each level), in the trace's own units.

    The members are not trained further; averaging cancels errors that differ between seeds and networks (deep
    ensembles: Lakshminarayanan et al., NeurIPS 2017). A member with a shorter input length sees the last steps of the
    history. The ensemble's checkpoint contains its members: their own files are no longer needed.

    Args:
        members: run directories or checkpoints of forecasters, or callables that make one (a checkpoint's `spec` does).
        n_regions, n_calendar, input_length, horizon, season_length: of the data (`TrafficDataModule` has them).
        nonnegative: clip forecasts at zero (traffic is never negative).
        instance_norm: ignored, every member has its own; accepted for experiments that set it for any predictor.
        regions, calendar, step_s: names of the data's regions and calendar cycles, its step [s]; None: not known.

    Raises:
        InputError: there is no member, or one is no forecaster's checkpoint or was fitted for other sizes or quantiles.
    """

    network: nn.ModuleList

    def __init__(
        self,
        members: Sequence[str | Path | Callable[[], Forecaster]],
        n_regions: int,
        n_calendar: int,
        input_length: int,
        horizon: int,
        season_length: int,
        nonnegative: bool = True,
        instance_norm: bool | None = None,
        regions: Sequence[str] | None = None,
        calendar: Sequence[str] | None = None,
        step_s: int | None = None,
    ):
        data: dict[str, Any] = {"n_regions": n_regions, "n_calendar": n_calendar, "horizon": horizon}
        data |= {"season_length": season_length, "regions": regions, "calendar": calendar, "step_s": step_s}
        super().__init__(_Members, **data, input_length=input_length, nonnegative=nonnegative)
        listed("members", members, "[RUN_DIRECTORY, FILE.ckpt]", "list of fitted predictors")
        forecasters = [_loaded(member) for member in members]
        for place, (member, forecaster) in enumerate(zip(members, forecasters, strict=True)):
            name = f"members[{place}]" + (f"={member}" if isinstance(member, str | Path) else "")
            _check(name, forecaster, forecasters[0], data, input_length)
        self.loss, self.levels, self.n_outputs = forecasters[0].loss, forecasters[0].levels, forecasters[0].n_outputs
        self.network.extend(forecaster.requires_grad_(False) for forecaster in forecasters)
        specs = [forecaster.spec for forecaster in forecasters]
        arguments = {**data, "members": specs, "input_length": input_length, "nonnegative": nonnegative}
        self.spec = checkpoint.describe(type(self), arguments)

    def forward(self, window: Window) -> Float[Tensor, "batch horizon regions outputs"]:
        """Forecast in scaled units: standardised by the training part's mean and standard deviation."""
        members = cast(Iterable[Forecaster], self.network)
        forecasts = [member.forecast(_last(window, member.sizes.input_length)) for member in members]
        real = torch.stack(forecasts).mean(0)
        return self.scaler.transform(real.transpose(2, 3)).transpose(2, 3)


class _Members(nn.ModuleList):
    """An empty network with the signature that `Forecaster` expects; the ensemble adds the members to it."""

    def __init__(self, sizes: Sizes):
        super().__init__()


def _last(window: Window, steps: int) -> Window:
    return window._replace(history=window.history[:, -steps:], history_calendar=window.history_calendar[:, -steps:])


def _loaded(member: Any) -> Forecaster:
    if isinstance(member, str | Path):
        return checkpoint.load(member, expect=Forecaster)
    if not callable(member):
        raise OptionError("members", f": {member!r} is no run directory or checkpoint of a fitted predictor")
    return member()


def _check(name: str, member: Forecaster, first: Forecaster, data: dict[str, Any], input_length: int) -> None:
    """Raise if a member cannot forecast the ensemble's windows, or has other quantiles than the first member."""
    if (reason := unsuited(member.spec["arguments"], data)) is not None:
        raise OptionError(name, f" {reason}; name predictors that were fitted for these data")
    if (own := member.sizes.input_length) > input_length:
        raise OptionError(name, f" sees {own} steps of history; set windows.input_length={own} or more")
    if member.levels != first.levels:
        raise OptionError(name, " and members[0] forecast other quantiles; name predictors of the same loss")
