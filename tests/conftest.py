"""Shape checks for every test: jaxtyping's annotations are enforced by beartype while the suite runs."""

import os

os.environ.setdefault("WANDB_MODE", "offline")

from jaxtyping import install_import_hook

install_import_hook(["sliceoff", "callbacks"], "beartype.beartype")
