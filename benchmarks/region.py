"""Speed of the region environment: user-decisions per second, against mobile-env; cost per user; memory.

    python benchmarks/region.py [speed] [peer] [users] [memory] [--seconds 5] [--memory-steps 1000000]

A user-decision is one present user in one slot of one copy: allocated by a rule, served, and the next slot drawn. One
process per core, one thread each. Rates are per wall second and per second of CPU time received, which differ if other
programs use the cores; intervals are 95 %, over five time windows.
"""

import argparse
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable

import torch
from harness import finish, interval, options, resident_mib, shown, table

from sliceoff.region import Allocator, Equal, Greedy, LookaheadGreedy, Random, RegionEnvironment, Scenario

CORES = min(2, os.cpu_count() or 1)
WINDOWS = 5
# The slice of Eq. 17 for 20 users in the default region (`FixedKappa` with kappa 0.5, z 2), rounded up.
RENT_HZ, RENT_VMS = 21.7e6, 12
HERTZ_PER_USER, VMS_PER_USER = RENT_HZ / 20, RENT_VMS / 20

Rates = list[tuple[float, float]]  # per wall and per CPU second, a pair per window
CLOCKS = {"wall": "per_second", "CPU": "per_cpu_second_times_cores"}


def region(users: int, copies: int, first_copy: int = 0) -> RegionEnvironment:
    """Copies with room for `users` users each, of whom four fifths are present on average."""
    scenario = Scenario(max_users=users, max_vms=max(1, round(VMS_PER_USER * users)))
    mean = 0.8 * users
    return RegionEnvironment(
        scenario,
        mean,
        copies,
        seed=0,
        copy_ids=range(first_copy, first_copy + copies),
        bandwidth_hz=HERTZ_PER_USER * mean,
        n_vms=max(1, round(VMS_PER_USER * mean)),
    )


def measured(step: Callable[[], int], seconds: float) -> Rates:
    """The rate of what `step` returns, in time windows of `seconds` in total."""
    for _ in range(3):
        step()
    rates = []
    for _ in range(WINDOWS):
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds / WINDOWS:
            count += step()
        rates.append((count / (time.perf_counter() - wall), count / (time.process_time() - cpu)))
    return rates


def our_rates(rule: Allocator, users: int, copies: int, seconds: float, first_copy: int = 0) -> Rates:
    """Our user-decisions per second in this process."""
    torch.set_num_threads(1)
    environment = region(users, copies, first_copy)

    def step() -> int:
        state = environment.state
        environment.step(rule.allocate(environment.scenario, state))
        return int(state.tasks.present.sum())

    return measured(step, seconds)


def mobile_env_rates(name: str, seconds: float) -> tuple[int, Rates]:
    """The number of users and user-steps per second of one of mobile-env's scenarios, with random actions."""
    import gymnasium
    import mobile_env  # noqa: F401  (registers its environments)

    warnings.simplefilter("ignore")
    env = gymnasium.make(name)
    env.reset(seed=0)
    env.action_space.seed(0)
    users = len(vars(env.unwrapped)["users"])

    def step() -> int:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
        return users

    return users, measured(step, seconds)


def resident_over(steps: int) -> dict[int, float]:
    """The resident memory of this process after 1000, 10 000, ... and after `steps` slots."""
    environment, rule = region(users=10, copies=1), Random()
    found = {}
    for step in range(1, steps + 1):
        environment.step(rule.allocate(environment.scenario, environment.state))
        if step == steps or step in (10**power for power in range(3, 9)):
            found[step] = resident_mib()
    return found


def speed(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure every rule on all cores."""
    rows, results = [], dict[str, float]()
    for rule in (Equal(), Random(), Greedy(), LookaheadGreedy()):
        with multiprocessing.get_context("spawn").Pool(CORES) as pool:
            parts = pool.starmap(our_rates, [(rule, 50, 1024, arguments.seconds, core * 1024) for core in range(CORES)])
        name, row = type(rule).__name__.lower(), {}
        for kind, (clock, key) in enumerate(CLOCKS.items()):
            rates = [sum(rate[kind] for rate in window) for window in zip(*parts, strict=True)]
            row[f"million/s ({clock})"] = shown([rate / 1e6 for rate in rates])
            results[f"{name}_{key}"], results[f"{name}_{key}_95"] = interval(rates)
        rows.append({"rule": name} | row)
    table(f"user-decisions per second, {CORES} processes of 1024 copies of up to 50 users", rows)
    return results


def peer(arguments: argparse.Namespace) -> dict[str, float]:
    """Compare with mobile-env, one process each."""
    rows, results = [], dict[str, float]()
    for name in ("mobile-small-central-v0", "mobile-large-central-v0"):
        users, theirs = mobile_env_rates(name, arguments.seconds)
        ours = our_rates(Equal(), round(users / 0.8), 1024, arguments.seconds)
        (their_wall, their_cpu), (wall, cpu) = (
            [sum(rate[kind] for rate in rates) / WINDOWS for kind in (0, 1)] for rates in (theirs, ours)
        )
        rows.append(
            {
                "users": users,
                "mobile-env /s": their_wall,
                "ours /s": wall,
                "ratio": wall / their_wall,
                "ratio (CPU)": cpu / their_cpu,
            }
        )
        results |= {f"mobile_env_{users}_users": their_wall, f"ours_{users}_users": wall}
        results |= {f"ratio_{users}_users": wall / their_wall, f"cpu_ratio_{users}_users": cpu / their_cpu}
    table("against mobile-env (its package), one process each", rows)
    return results


def users(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure the cost per user from 10 to 10 000 users per region, with three VMs for every five users."""
    rows, results = [], dict[str, float]()
    for count in (10, 100, 1000, 10_000):
        copies = max(1, 50_000 // count)
        row: dict[str, float] = {"users per region": count, "copies": copies}
        for rule in (Equal(), Greedy()):
            rates = our_rates(rule, count, copies, arguments.seconds)
            name = type(rule).__name__.lower()
            row[f"{name}: ns per user (CPU)"] = 1e9 * WINDOWS / sum(cpu for _, cpu in rates)
            results[f"{name}_ns_per_user_{count}"] = row[f"{name}: ns per user (CPU)"]
        rows.append(row)
    table("cost per user", rows)
    return results


def memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Measure resident memory over many steps, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(resident_over, (arguments.memory_steps,))
    table("memory", [{"steps": step, "resident MiB": mib} for step, mib in found.items()])
    growth = found[arguments.memory_steps] - found[min(found)]
    return {"memory_steps": arguments.memory_steps, "memory_growth_mib": growth}


PARTS = {"speed": speed, "peer": peer, "users": users, "memory": memory}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, metavar="part", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=5.0, help="for every rate")
    parser.add_argument("--memory-steps", type=int, default=1_000_000, help="slots of `memory`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, float] = {"cores": CORES}
    for part in arguments.parts or PARTS:
        results |= PARTS[part](arguments)
    finish(results)


if __name__ == "__main__":
    main()
