"""The mean of forecasters that were fitted before, each in a run of its own."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff import checkpoint
from sliceoff.data import Window
from sliceoff.errors import InputError
from sliceoff.predictor.forecaster import Forecaster
from sliceoff.predictor.losses import QuantileLoss
from sliceoff.predictor.sizes import Sizes


class Ensemble(Forecaster):
    """Forecasts the mean of its members' forecasts (quantiles: of each level), in the trace's own units.

    The members are not fitted any further; what they share is no error of any one seed or network (deep ensembles:
    Lakshminarayanan et al., NeurIPS 2017). A member that was given fewer steps of history sees the last ones. The
    ensemble's own checkpoint holds its members whole: their files are not needed again.

    Args:
        members: run directories or checkpoints of forecasters, or makers of one that is not fitted yet.
        n_regions, n_calendar, input_length, horizon, season_length: of the data (`TrafficDataModule` has them).
        nonnegative: no forecast below zero (traffic never is).
        instance_norm: of no effect, every member has its own; here for experiments that set it for any predictor.

    Raises:
        InputError: there is no member, one is no forecaster's checkpoint, or was fitted for other sizes or quantiles.
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
    ):
        super().__init__(_Members, n_regions, n_calendar, input_length, horizon, season_length, nonnegative=nonnegative)
        if isinstance(members, str) or not members:
            raise InputError(
                f"predictor.members={members!r} must be a list of fitted predictors: "
                "predictor.members=[RUN_DIRECTORY, FILE.ckpt, ...]"
            )
        forecasters = [
            checkpoint.load(member, expect=Forecaster) if isinstance(member, str | Path) else member()
            for member in members
        ]
        sizes = {"n_regions": n_regions, "n_calendar": n_calendar, "horizon": horizon, "season_length": season_length}
        for place, forecaster in enumerate(forecasters):
            _check(f"predictor.members[{place}]", forecaster, forecasters[0], sizes, input_length)
        self.loss, self.n_outputs = forecasters[0].loss, forecasters[0].n_outputs
        self.network.extend(forecaster.requires_grad_(False).train() for forecaster in forecasters)
        arguments = {**sizes, "input_length": input_length, "nonnegative": nonnegative}
        members_specs = [forecaster.spec for forecaster in forecasters]
        self.spec = checkpoint.describe(type(self), {"members": members_specs, **arguments})

    def forward(self, window: Window) -> Float[Tensor, "batch horizon regions outputs"]:
        """Forecast in standard deviations of the training part."""
        members = cast(Iterable[Forecaster], self.network)
        forecasts = [member.forecast(_last(window, _argument(member, "input_length"))) for member in members]
        real = torch.stack(forecasts).mean(0)
        return self.scaler.transform(real.transpose(2, 3)).transpose(2, 3)


class _Members(nn.ModuleList):
    """A network of the signature that a `Forecaster` asks for; the ensemble fills it with forecasters."""

    def __init__(self, sizes: Sizes):
        super().__init__()


def _last(window: Window, steps: int) -> Window:
    return window._replace(history=window.history[:, -steps:], history_calendar=window.history_calendar[:, -steps:])


def _argument(forecaster: Forecaster, name: str) -> Any:
    return forecaster.spec["arguments"][name]


def _check(place: str, member: Forecaster, first: Forecaster, sizes: dict[str, int], input_length: int) -> None:
    """Raise where a member cannot forecast the ensemble's windows, or not what the first member does."""
    for name, size in sizes.items():
        if (own := _argument(member, name)) != size:
            raise InputError(f"{place} was fitted for {name}={own}, and the data has {size}; name one fitted for these")
    if (own := _argument(member, "input_length")) > input_length:
        raise InputError(f"{place} sees {own} steps of history; set windows.input_length={own} or more")
    if _levels(member) != _levels(first):
        raise InputError(
            f"{place} and predictor.members[0] forecast other quantiles; name forecasters of the same loss"
        )


def _levels(forecaster: Forecaster) -> list[float]:
    return forecaster.loss.levels.tolist() if isinstance(forecaster.loss, QuantileLoss) else []
