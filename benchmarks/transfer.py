"""Fine-tuning on real traces: pretrain on one trace, tune on the first days of another, with five seeds.

    python benchmarks/transfer.py [--source PobleSec] [--target LesCorts] [--predictor gru] [--seeds 5] [--report]

Runs `main.py job=fit_predictor ...`, then `main.py job=finetune ...`; each seed's results are kept under the cache. The
training days are preceded by a day of history. Errors are scaled by the statistics of their number of days, so compare
them only within the same number.
"""

from pathlib import Path

import polars
from harness import finish, interval, options, shown, table
from traces import TRACES

from sliceoff.run import configure, run

WINDOWS = ["windows.input_length=144", "windows.horizon=24"]
QUIET = ["callbacks.predictor.progress=null"]
PRETRAIN = ["job=fit_predictor", "predictor.instance_norm=true"]
CELLS = ("PobleSec", "LesCorts")
DAYS = (1, 2, 4)


def transferred(predictor: str, source: str, target: str, seed: int, cache: Path) -> polars.DataFrame:
    """All forecasters' errors for every number of days, with one seed."""
    file = cache / f"{seed}.parquet"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        first, second = cache / f"pretrained_{seed}", cache / f"tuned_{seed}"
        common = [*QUIET, f"seed={seed}"]
        pretrain = [*PRETRAIN, *WINDOWS, f"predictor={predictor}"]
        pretrained = run(configure(*pretrain, *TRACES[source], *common, f"run_dir={first}")).directory
        tune = ["job=finetune", f"job.days={list(DAYS)}", f"init.checkpoint={pretrained}"]
        after = configure(*tune, *TRACES[target], *common, f"run_dir={second}")
        run(after).table.write_parquet(file)
    return polars.read_parquet(file)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--source", default="PobleSec", choices=CELLS, help="the trace to pretrain on")
    parser.add_argument("--target", default="LesCorts", choices=CELLS, help="the trace to tune on")
    parser.add_argument("--predictor", default="gru", help="gru has the lowest validation error on PobleSec")
    parser.add_argument("--seeds", type=int, default=5, help="of both trainings")
    parser.add_argument("--cache", type=Path, default=Path("runs/transfer_study"), help="where every seed is kept")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    given = parser.parse_args()
    cache = given.cache / f"{given.predictor}-{given.source}-{given.target}"
    seeds = [s for s in range(given.seeds) if not given.report or (cache / f"{s}.parquet").is_file()]
    if not seeds:
        parser.error(f"--report: nothing was run yet under {cache}; leave it out to run")
    found = [transferred(given.predictor, given.source, given.target, seed, cache) for seed in seeds]
    windows = found[0]["training windows"].unique().sort()
    rows, results = [], dict[str, float]()
    for days, count in zip(DAYS, windows, strict=True):
        here = [each.filter(polars.col("training windows") == count) for each in found]
        row: dict[str, object] = {"days": days, "training windows": count}
        errors: dict[str, list[float]] = {
            name: [each.filter(polars.col("forecaster") == name)["test/scaled_mse"][0] for each in here]
            for name in here[0]["forecaster"]
        }
        for rival in ("from scratch", "zero-shot"):
            errors[f"tuned over {rival}"] = [
                tuned / other for tuned, other in zip(errors["tuned"], errors[rival], strict=True)
            ]
        for name, values in errors.items():
            row[name] = shown(values)
            results[f"{days}_days/{name}"], results[f"{days}_days/{name}_half_width"] = interval(values)
        rows.append(row)
    table(
        f"{given.predictor}, {given.source} to {given.target}, four hours ahead: scaled MSE, {len(seeds)} seeds, 95 %",
        rows,
    )
    finish(results)


if __name__ == "__main__":
    main()
