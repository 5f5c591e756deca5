"""Algorithm 1 at scale: `python benchmarks/loop.py [greedy|dual ...] [--regions 100] [--periods 168] [--slots 60]`.

A hundred regions with about twenty users each over one week of hours, with the default slicer; the forecast repeats the
last hour, so that nothing has to be fitted (aims on 2 cores: 30 s with the greedy rule, 120 s with the learned policy).
The policy has the weights it was drawn with: how long it takes to decide does not depend on what it has learned.
"""

import argparse
import time

import torch
from harness import finish, table

from sliceoff.loop import Simulation
from sliceoff.run import Parts, configure


def measured(allocator: str, given: argparse.Namespace) -> dict[str, float]:
    """Wall seconds of a simulation by part."""
    overrides = ["predictor=last_value", "rivals=none", f"allocator={allocator}", f"data.n_regions={given.regions}"]
    parts = Parts(configure(*overrides))
    windows = parts.datamodule
    parts.forecaster.scaler.fit(windows.train_values)
    if isinstance(parts.allocator, torch.nn.Module):
        parts.allocator.eval()
    stack = parts.stacks[0]
    begun = time.perf_counter()
    simulation = Simulation(
        stack,
        windows,
        parts.scenario,
        unit_users=parts.users_per_unit,
        start=windows.heldout_start,
        slots_per_period=given.slots,
        seed=0,
        workers=given.workers,
    )
    for _ in range(given.periods):
        simulation.step()
    seconds = time.perf_counter() - begun
    users = simulation.table()["users"].mean()
    return {"users per slot": float(users), **simulation.seconds, "in all": seconds}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("allocators", nargs="*", default=["greedy", "dual"])
    parser.add_argument("--regions", type=int, default=100)
    parser.add_argument("--periods", type=int, default=168)
    parser.add_argument("--slots", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [{"allocator": name, **measured(name, given)} for name in given.allocators]
    table(f"{given.regions} regions x {given.periods} long slots x {given.slots} short slots, seconds", rows)
    finish({f"{row['allocator']}/{part}": value for row in rows for part, value in row.items() if part != "allocator"})


if __name__ == "__main__":
    main()
