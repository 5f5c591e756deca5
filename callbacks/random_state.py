"""Random state in every checkpoint, so that a resumed run draws what an uninterrupted one would have drawn."""

from typing import Any

import lightning.pytorch as pl
import torch


class RandomState(pl.Callback):
    """Save the state of torch's global random generators in the checkpoint (Lightning does not)."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The generators' states, as tensors: they load with `weights_only=True`."""
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states; they are set when training starts, because set-up draws random numbers too."""
        self._restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the states that the checkpoint held."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["cpu"])
        if "cuda" in self._restored and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self._restored["cuda"])
        self._restored = None
