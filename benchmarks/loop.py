"""Algorithm 1 at scale: `python benchmarks/loop.py [greedy dual ...] [--regions 100] [--periods 168] [--slots 60]`.

A hundred regions with about twenty users each over one week of hours, with the default slicer; the forecast repeats the
last hour, so that nothing has to be fitted (aims on 2 cores: 30 s with the greedy rule, 120 s with the learned policy).
The policy is untrained, as its speed does not depend on the weights. The same simulation runs in one process, then in
several.
"""

import argparse
import math
import time
from contextlib import closing

import torch
from harness import finish, options, table

from sliceoff.loop import Forecasts, Simulation
from sliceoff.run import Parts, configure

SIZE = {"regions": 100, "periods": 168, "slots": 60}
AIMS = {"greedy": 30.0, "dual": 120.0}  # seconds, at that size


def measured(allocator: str, given: argparse.Namespace, workers: int) -> dict[str, float]:
    """The wall seconds of each part of a simulation."""
    overrides = ["predictor=last_value", "rivals=none", f"allocator={allocator}", f"data.n_regions={given.regions}"]
    parts = Parts(configure(*overrides))
    windows = parts.datamodule
    parts.forecaster.scaler.fit(windows.train_values)
    if isinstance(parts.allocator, torch.nn.Module):
        parts.allocator.eval()
    stack = parts.main_stack()
    begun = time.perf_counter()
    simulation = Simulation(
        stack,
        Forecasts(parts.forecaster, windows),
        parts.scenario,
        unit_users=parts.users_per_unit,
        periods=range(windows.heldout_start, windows.heldout_start + given.periods),
        slots_per_period=given.slots,
        seed=0,
        workers=workers,
    )
    with closing(simulation):
        while not simulation.ended:
            simulation.step()
        seconds = time.perf_counter() - begun
    users = simulation.table()["users"].to_numpy().mean()
    return {"users per slot": float(users), **simulation.seconds, "in all": seconds}


def compared(allocator: str, given: argparse.Namespace) -> dict[str, float]:
    """The parts of the time in several processes, and the total against that of one process and the aim."""
    alone = measured(allocator, given, 1)["in all"]
    found = measured(allocator, given, given.workers)
    aim = AIMS.get(allocator, math.nan) if SIZE.items() <= vars(given).items() else math.nan
    beside = {"one worker": alone, "one over several": alone / found["in all"]}
    return found | beside | {"aim": aim, "part of the aim": found["in all"] / aim}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("allocators", nargs="*", default=["greedy", "dual"], help="options of the group `allocator`")
    parser.add_argument("--regions", type=int, default=SIZE["regions"])
    parser.add_argument("--periods", type=int, default=SIZE["periods"], help="long slots")
    parser.add_argument("--slots", type=int, default=SIZE["slots"], help="short slots per long one")
    parser.add_argument("--workers", type=int, default=2, help="processes, compared with one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [{"allocator": name, **compared(name, given)} for name in given.allocators]
    size = f"{given.regions} regions x {given.periods} long slots x {given.slots} short slots"
    table(f"{size}, {given.workers} workers, seconds", rows)
    finish({f"{row['allocator']}/{part}": value for row in rows for part, value in row.items() if part != "allocator"})


if __name__ == "__main__":
    main()
