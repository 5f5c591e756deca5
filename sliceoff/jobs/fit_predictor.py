"""`job=fit_predictor`: fit the predictor and test it on the trace's held-out end."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sliceoff.jobs.training_report import learned
from sliceoff.predictor import Forecaster
from sliceoff.run_directory import Results, RunDirectory

if TYPE_CHECKING:
    from sliceoff.run import Parts


@dataclass(frozen=True)
class FitPredictor:
    """Fit the predictor, test its best weights, and leave its checkpoints."""

    name: str

    def __call__(self, parts: "Parts", directory: RunDirectory) -> Results:
        """Run; returns the test metrics and the learning log.

        Raises:
            InputError: the config cannot be built, or names anything by `init`.
        """
        parts.init_serves()
        _ = parts.forecaster  # built before anything is written
        forecaster = parts.fit("predictor", directory, "")
        return learned("predictor", directory, parts.test(cast(Forecaster, forecaster)))
