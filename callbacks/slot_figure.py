"""A picture of one slot's decisions at every evaluation, to watch an allocator learn."""

from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import matplotlib.pyplot as plt
import torch

from sliceoff.loggers import log_figures
from sliceoff.region import Allocator, RegionEnvironment, Scenario, draw_slot


class SlotFigure(pl.Callback):
    """Draw one region's allocation and its outcome; every picture shows the same tasks, after the same number of slots.

    Written to `dirpath/slots/<epoch>.png`, and to the loggers that store figures.

    Args:
        dirpath: directory of the pictures.
        mean_users, bandwidth_hz, n_vms: the region drawn; the defaults are a busy hour with too little rented.
        slots: slots served before the one that is drawn, so that queues have filled.
    """

    def __init__(
        self,
        dirpath: Path | str,
        mean_users: float | int = 20,
        bandwidth_hz: float | int = 8e6,
        n_vms: int = 4,
        slots: int = 4,
    ):
        self._directory = Path(dirpath) / "slots"
        self._mean_users, self._bandwidth_hz, self._n_vms, self._slots = mean_users, bandwidth_hz, n_vms, slots

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Allocator)
        scenario = cast(Scenario, pl_module.scenario)
        mean_users, n_vms = min(self._mean_users, scenario.max_users), min(self._n_vms, scenario.max_vms)
        environment = RegionEnvironment(scenario, mean_users, 1, seed=0, bandwidth_hz=self._bandwidth_hz, n_vms=n_vms)
        for _ in range(self._slots + 1):
            state = environment.state
            allocation = pl_module.allocate(scenario, state)
            _, outcome = environment.step(allocation)
        with torch.no_grad():
            figure = draw_slot(scenario, state, allocation, outcome)
        self._directory.mkdir(parents=True, exist_ok=True)
        figure.savefig(self._directory / f"{trainer.current_epoch:04d}.png", metadata={"Software": None})
        log_figures(trainer.loggers, {"slot": figure})
        plt.close(figure)
