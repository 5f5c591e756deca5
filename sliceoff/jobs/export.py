"""`job=export`: a fitted predictor as a file that runs without SliceOff."""

from dataclasses import dataclass

import polars

from sliceoff.checks import one_of
from sliceoff.parts import Parts
from sliceoff.predictor import export
from sliceoff.report import page
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True)
class Export:
    """Write `init.checkpoint`'s predictor into the run directory as `forecaster.pt2` or `forecaster.onnx`.

    Args:
        format: `pt2` (`torch.export`) or `onnx`.

    Raises:
        InputError: the format is unknown or its packages are missing.
    """

    name: str
    format: str = "onnx"

    def __post_init__(self) -> None:
        one_of("format", self.format, ("pt2", "onnx"))

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns the file's size, and the sizes of its inputs."""
        parts.init_serves("checkpoint")
        forecaster = parts.loaded_forecaster()
        file = export(forecaster, directory.path / f"forecaster.{self.format}")
        sizes = forecaster.spec["arguments"]
        inputs = {name: sizes[name] for name in ("input_length", "horizon", "n_regions", "n_calendar")}
        summary = {"file": file.name, "bytes": file.stat().st_size}
        report = page(
            title="SliceOff: exported predictor",
            about=str(directory.path),
            headline=f"{file.name}, {summary['bytes']:,} bytes, forecasts what the checkpoint does, without SliceOff.",
            rows=[inputs],
            sections=[],
        )
        return Results(summary, polars.DataFrame([inputs]), report)
