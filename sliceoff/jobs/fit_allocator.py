"""`job=fit_allocator`: train the allocator on the trace's training part."""

from dataclasses import dataclass

import lightning.pytorch as pl

from sliceoff.errors import InputError
from sliceoff.jobs.training_report import learned
from sliceoff.parts import Parts
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True)
class FitAllocator:
    """Train the allocator and write its checkpoints."""

    name: str

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns the numbers logged up to the best epoch, and the whole log."""
        parts.init_serves("allocator")
        if not isinstance(parts.allocator, pl.LightningModule):
            raise InputError(f"job=fit_allocator: {type(parts.allocator).__name__} is a rule; choose allocator=dual")
        parts.fit_allocator(directory)
        return learned("allocator", directory)
