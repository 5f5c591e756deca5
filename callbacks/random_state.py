"""Random state in every checkpoint, so that a resumed run draws what an uninterrupted one would have drawn."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch


class RandomState(pl.Callback):
    """Keep torch's and numpy's global generators in the checkpoint (Lightning leaves them out)."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The generators' states, as plain data that loads with `weights_only=True`."""
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states to restore; they are set when training starts, after everything that draws at set-up."""
        self._restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore what the checkpoint held."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["torch"])
        name, keys, position, has_gauss, gauss = self._restored["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
        if "cuda" in self._restored:
            torch.cuda.set_rng_state_all(self._restored["cuda"])
        self._restored = None
