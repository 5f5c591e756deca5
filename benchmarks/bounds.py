"""How close the rules come to the optimum on small instances, and to the upper bound at full size.

    python benchmarks/bounds.py [--instances 20] [--seeds 5] [--max-seconds 60]

Small instances start with queues from earlier slots and are short of bandwidth and VMs. At full size there are 20 users
on average, a fraction of the slice that Eq. 17 asks for, and the same tasks for all rules; intervals are 95 %, over
instances and over seeds. No bound may be below an optimum: instances where it is are counted.
"""

import time
from collections.abc import Sequence

import torch
from harness import finish, interval, options, shown, table
from region import RENT_HZ, RENT_VMS

from sliceoff.region import (
    Allocator,
    Equal,
    Greedy,
    LookaheadGreedy,
    Proportional,
    Random,
    RegionEnvironment,
    RegionState,
    Scenario,
    optimum,
    upper_bound,
)

SMALL = ((1, 8, 3), (2, 6, 2), (3, 5, 2))  # slots, users, VMs
COPIES, SLOTS = 16, 40


def small(slots: int, users: int, vms: int, seed: int, max_seconds: float) -> dict[str, float]:
    """On one small instance: the rules' revenue over the optimum, and the optimum over the bound."""
    scenario = Scenario(max_users=users, max_vms=vms)
    environment = RegionEnvironment(
        scenario, 0.9 * users, 1, seed, bandwidth_hz=0.25e6 * users, n_vms=vms, dtype=torch.float64
    )
    for _ in range(2):
        environment.step(Greedy().allocate(scenario, environment.state))
    start = environment.state_dict()
    earned = {}
    for rule in (Greedy(), LookaheadGreedy()):
        environment.load_state_dict(start)
        states, earned[rule] = served(environment, rule, slots)
    begun = time.perf_counter()
    best = optimum(scenario, states, max_seconds=max_seconds)
    seconds = time.perf_counter() - begun
    bound = float(upper_bound(scenario, states))
    return {
        **{_name(rule): float(revenue) / best.revenue for rule, revenue in earned.items()},
        "optimum_of_bound": best.revenue / bound,
        "below": float(bound < best.revenue * (1 - 1e-9)),
        "proven": float(best.proven),
        "seconds": seconds,
    }


def served(environment: RegionEnvironment, rule: Allocator, slots: int) -> tuple[Sequence[RegionState], torch.Tensor]:
    """The states that `rule` met, and its revenue in each copy."""
    states, earned = [], torch.zeros(environment.n_copies, dtype=environment.dtype)
    for _ in range(slots):
        states.append(environment.state)
        _, outcome = environment.step(rule.allocate(environment.scenario, states[-1]))
        earned += outcome.revenue.sum(-1)
    return states, earned


def full(rule: Allocator, part: float, seed: int) -> float:
    """The rules' revenue over the bound, with this fraction of Eq. 17's slice."""
    scenario = Scenario()
    environment = RegionEnvironment(
        scenario, 20.0, COPIES, seed, bandwidth_hz=part * RENT_HZ, n_vms=round(part * RENT_VMS)
    )
    states, earned = served(environment, rule, SLOTS)
    return float(earned.sum() / upper_bound(scenario, states).sum())


def _name(rule: Allocator) -> str:
    return type(rule).__name__.lower()


def _percent(values: Sequence[float]) -> str:
    return shown([100 * value for value in values])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--instances", type=int, default=20, help="small ones, of every kind")
    parser.add_argument("--seeds", type=int, default=5, help="at full size")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="for one optimum")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, float] = {}

    rows = []
    for slots, users, vms in SMALL:
        found = [small(slots, users, vms, seed, arguments.max_seconds) for seed in range(arguments.instances)]
        columns = {name: [each[name] for each in found] for name in found[0]}
        key = f"{slots}_slots_{users}_users_{vms}_vms"
        rows.append(
            {
                "slots, users, VMs": f"{slots}, {users}, {vms}",
                "greedy % of optimum": _percent(columns["greedy"]),
                "look-ahead % of optimum": _percent(columns["lookaheadgreedy"]),
                "optimum % of bound": _percent(columns["optimum_of_bound"]),
                "bound below optimum": int(sum(columns["below"])),
                "proven": f"{sum(columns['proven']):.0f} of {len(found)}",
                "s per optimum": sum(columns["seconds"]) / len(found),
            }
        )
        results |= {f"{name}_{key}": sum(values) / len(values) for name, values in columns.items()}
    table(f"{arguments.instances} small instances of each kind, with queues from earlier slots", rows)

    rows = []
    for rule in (Random(), Equal(), Proportional(), Greedy(), LookaheadGreedy()):
        row: dict[str, object] = {"rule": _name(rule)}
        for part in (1.0, 0.6, 0.4):
            shares = [full(rule, part, seed) for seed in range(arguments.seeds)]
            row[f"{part:.0%} of the rent"] = _percent(shares)
            mean, half = interval(shares)
            key = f"{_name(rule)}_of_bound_at_{part:.1f}_rent"
            results |= {key: mean, f"{key}_95": half}
        rows.append(row)
    table(f"% of the bound, 20 users, {COPIES} regions x {SLOTS} slots x {arguments.seeds} seeds", rows)
    finish(results)


if __name__ == "__main__":
    main()
