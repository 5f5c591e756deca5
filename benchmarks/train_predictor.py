"""Training speed of the Informer: ours, a plain loop over the published form, and neuralforecast's, at one size.

    python benchmarks/train_predictor.py [--steps 40] [--turns 3] [--threads 1] [--sides published ours bf16 ...]

ETTh1, 48 -> 24, all columns; d_model 512, 8 heads, 2 + 1 layers, d_ff 2048, dropout 0.05, batch 32. The sides take
turns, each in a fresh process, whose first ten steps are not counted; figures are medians of the turns. `published` is
the network with attention gathered per query as in benchmarks/attention.py (without dropout of its weights, as
published), torch's own dropout, every step decoded, windows copied row by row, and a plain torch loop. Ours uses dense
attention at this length (`DENSE_BELOW`). `medium` is the config's `matmul_precision=medium`, which may round factors of
products: the error of a product shows whether it does (1e-6 or less is single precision). `published_medium` has the
same setting. The held-out error is that of the held-out windows after as many steps from the same weights.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from attention import published
from harness import bare_trainer, finish, options, rounding_error, table
from torch.utils.data import DataLoader, Dataset
from windows import RowByRow

from sliceoff.data import Window
from sliceoff.data.calendar import calendar_features
from sliceoff.fitting import has_bfloat16
from sliceoff.predictor import layers
from sliceoff.run import Parts, configure

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INPUT, HORIZON, BATCH, WARM_UP = 48, 24, 32, 10
RIVALS = ("published", "neuralforecast")
SIZE = [
    "experiment=ett_h1_multivariate",
    f"windows.input_length={INPUT}",
    f"windows.horizon={HORIZON}",
    f"windows.batch_size={BATCH}",
    "windows.calendar=[day,week]",
    "predictor.channels=joint",
    "predictor.instance_norm=false",
    "predictor.learning_rate=1e-4",
    "predictor.network.d_model=512",
    "predictor.network.n_heads=8",
    "predictor.network.d_ff=2048",
    "predictor.network.dropout=0.05",
]


class Clock(pl.Callback):
    """Times the steps after the warm-up; the class keeps the times, because neuralforecast trains with a copy."""

    took = 0.0

    def __init__(self, steps: int):
        self.steps, self.begun = steps, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == WARM_UP:
            self.begun = now()
        if trainer.global_step == self.steps:
            Clock.took = now() - self.begun


def now() -> float:
    """The time in seconds, after all pending work of a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(parts: Parts, steps: int, side: str) -> float:
    forecaster, clock = parts.forecaster, Clock(steps)
    if side == "compiled":
        forecaster.compile()
    precision: Any = "bf16-mixed" if side == "bf16" else "32-true"
    trainer = bare_trainer(max_steps=steps, limit_val_batches=0, callbacks=[clock], precision=precision)
    trainer.fit(forecaster, parts.datamodule)
    return Clock.took


def plain_published(parts: Parts, steps: int) -> float:
    """Train the published form: gathered keys, windows row by row, a plain loop."""
    layers.prob_sparse_attention = lambda query, key, value, causal, **_: published(query, key, value, causal)
    layers.Dropout.forward = torch.nn.Dropout.forward  # type: ignore[method-assign]
    decode = layers.DecoderLayer.forward
    layers.DecoderLayer.forward = lambda self, state, memory, n_last=0: decode(self, state, memory)[:, -n_last:]  # type: ignore[method-assign]
    data, forecaster = parts.datamodule, parts.forecaster.to(DEVICE)
    forecaster.scaler.fit(data.train_values)
    values = data.train_values
    calendar = torch.from_numpy(calendar_features(data.trace.times[: len(values)]))
    rows: Dataset = RowByRow(values, calendar, INPUT, HORIZON)
    optimiser = torch.optim.AdamW(forecaster.parameters(), lr=forecaster.learning_rate, weight_decay=1e-4)
    loader, begun = DataLoader(rows, batch_size=BATCH, shuffle=True), 0.0
    forecaster.train()
    for step, (history, history_calendar, future, future_calendar) in enumerate(loader, 1):
        window = Window(
            history=history.to(DEVICE),
            history_calendar=history_calendar.to(DEVICE),
            future=future.to(DEVICE),
            future_calendar=future_calendar.to(DEVICE),
        )
        loss = torch.nn.functional.mse_loss(forecaster(window)[..., 0], forecaster.scaler.transform(window.future))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(forecaster.parameters(), forecaster.gradient_clip)
        optimiser.step()
        if step == WARM_UP:
            begun = now()
        if step == steps:
            break
    return now() - begun


def neuralforecast(parts: Parts, steps: int) -> float:
    import pandas
    from neuralforecast import NeuralForecast
    from neuralforecast.models import Informer

    data, clock = parts.datamodule, Clock(steps)
    values = data.train_values
    frame = pandas.concat(
        pandas.DataFrame({"unique_id": region, "ds": data.trace.times[: len(values)], "y": values[:, i].numpy()})
        for i, region in enumerate(data.trace.regions)
    )
    model = Informer(
        h=HORIZON,
        input_size=INPUT,
        hidden_size=512,
        conv_hidden_size=2048,
        n_head=8,
        encoder_layers=2,
        decoder_layers=1,
        distil=True,
        dropout=0.05,
        max_steps=steps,
        batch_size=7,
        windows_batch_size=BATCH,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        callbacks=[clock],
    )
    NeuralForecast([model], freq="h").fit(frame)
    return Clock.took


def measure(side: str, steps: int, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    parts = Parts(configure(*SIZE))
    _ = parts.forecaster
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if side in ("medium", "published_medium"):
        torch.set_float32_matmul_precision("medium")
    sides = {"published": plain_published, "published_medium": plain_published, "neuralforecast": neuralforecast}
    took = sides[side](parts, steps) if side in sides else ours(parts, steps, side)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=side == "bf16"):
        error = rounding_error(DEVICE)
    figures = {"samples_per_s": BATCH * (steps - WARM_UP) / took, "peak_mib": grown, "rounding_error": error}
    if side != "neuralforecast":
        figures["mse"] = parts.test(parts.forecaster)["test/scaled_mse"]
    return figures


def able(side: str) -> bool:
    """Whether this machine can run a side; prints why if not."""
    if side == "neuralforecast" and importlib.util.find_spec("neuralforecast") is None:
        print("neuralforecast is left out: pip install neuralforecast")
        return False
    if side == "bf16" and not has_bfloat16(DEVICE):
        print("bf16 is left out: this processor has no bfloat16 products and would take many times as long")
        return False
    return True


def main() -> None:
    sides = ["published", "published_medium", "ours", "medium", "bf16", "compiled", "neuralforecast"]
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=40, help=f"of training, the first {WARM_UP} of them not counted")
    parser.add_argument("--turns", type=int, default=3, help="processes of every side")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch")
    parser.add_argument("--sides", nargs="+", default=sides, choices=sides, help="all if not given")
    parser.add_argument("--child", choices=sides, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps <= WARM_UP:
        parser.error(f"--steps {given.steps}: the first {WARM_UP} are not counted; give more")
    if given.child:
        print(json.dumps(measure(given.child, given.steps, given.threads)))
        return
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in given.sides if able(side)}
    for side in [side for _ in range(given.turns) for side in turns]:
        command = [sys.executable, __file__, "--child", side, f"--steps={given.steps}", f"--threads={given.threads}"]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            sys.exit(f"{side} failed:\n{child.stderr[-2000:]}")
        turns[side].append(json.loads(child.stdout.splitlines()[-1]))
    found = {
        side: {name: statistics.median(turn[name] for turn in of_side) for name in of_side[0]}
        for side, of_side in turns.items()
    }
    times = {
        side: {rival: figures["samples_per_s"] / found[rival]["samples_per_s"] for rival in RIVALS if rival in found}
        for side, figures in found.items()
    }
    rows = [
        {
            "side": side,
            "samples/s": figures["samples_per_s"],
            **{f"times {rival}": ratio for rival, ratio in times[side].items()},
            "error of a product": figures["rounding_error"],
            "memory grown by [MiB]": figures["peak_mib"],
            f"held-out MSE after {given.steps} steps": figures.get("mse", float("nan")),
        }
        for side, figures in found.items()
    ]
    table(f"Informer {INPUT} -> {HORIZON}, d_model 512, batch {BATCH}, {given.threads} threads", rows)
    figures = {f"{side}/{name}": value for side, of_side in found.items() for name, value in of_side.items()}
    finish(figures | {f"{side}_times_{rival}": x for side, ratios in times.items() for rival, x in ratios.items()})


if __name__ == "__main__":
    main()
