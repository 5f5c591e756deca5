"""`job=fit_predictor`: fit the predictor and test it on the trace's held-out end."""

from dataclasses import dataclass

from sliceoff.jobs.training_report import learned
from sliceoff.parts import Parts
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True)
class FitPredictor:
    """Fit the predictor, test its best weights, and write its checkpoints."""

    name: str

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns the test metrics and the learning log.

        Raises:
            InputError: the config cannot be built, or sets a checkpoint in `init`.
        """
        parts.init_serves()
        _ = parts.forecaster  # built before anything is written
        return learned("predictor", directory, parts.test(parts.fit_predictor(directory)))
