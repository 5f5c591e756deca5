"""How fast the region environment is: user-decisions per second, beside mobile-env, and its cost per user.

    python benchmarks/region.py [--seconds 5] [--memory-steps 100000]

A user-decision is one present user in one slot of one copy: allocated by a rule, served, and the next slot drawn. One
process per core, one thread each. Rates are given per wall second and per second of CPU time actually had, which differ
when other programs use the cores too.
"""

import argparse
import multiprocessing
import os
import resource
import time
import warnings

import torch
from harness import finish, table

from sliceoff.region import Allocator, Equal, Greedy, LookaheadGreedy, Random, RegionEnvironment, Scenario

CORES = min(2, os.cpu_count() or 1)
# What Eq. 17 asks per user (kappa 0.5, z 2): see configs/region/default.yaml.
HERTZ_PER_USER, VMS_PER_USER = 21.7e6 / 20, 12 / 20


def region(users: int, copies: int, first_copy: int = 0) -> RegionEnvironment:
    """Copies with room for `users` each, four fifths of them present on average."""
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


def rate(rule: Allocator, users: int, copies: int, seconds: float, first_copy: int = 0) -> tuple[float, float]:
    """User-decisions per second of wall and of CPU time, in this process."""
    torch.set_num_threads(1)
    environment = region(users, copies, first_copy)
    for _ in range(3):
        environment.step(rule.allocate(environment.scenario, environment.state))
    decisions, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        state = environment.state
        environment.step(rule.allocate(environment.scenario, state))
        decisions += int(state.tasks.present.sum())
    return decisions / (time.perf_counter() - wall), decisions / (time.process_time() - cpu)


def rate_on_all_cores(rule: Allocator, users: int, copies: int, seconds: float) -> tuple[float, float]:
    """The same, summed over one process per core."""
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        parts = pool.starmap(rate, [(rule, users, copies, seconds, core * copies) for core in range(CORES)])
    return sum(wall for wall, _ in parts), sum(cpu for _, cpu in parts)


def mobile_env_rate(name: str, seconds: float) -> tuple[int, float, float]:
    """Users, and user-steps per second of wall and CPU time, of one of mobile-env's scenarios under random actions."""
    import gymnasium
    import mobile_env  # noqa: F401  (registers its environments)

    warnings.simplefilter("ignore")
    env = gymnasium.make(name)
    env.reset(seed=0)
    env.action_space.seed(0)
    users = len(env.unwrapped.users)
    steps, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
        steps += 1
    return users, steps * users / (time.perf_counter() - wall), steps * users / (time.process_time() - cpu)


def memory_growth_mib(steps: int) -> float:
    """How much the process's peak memory grows over `steps` slots, after the first thousand."""
    environment, rule = region(users=10, copies=1), Random()
    for step in range(steps):
        environment.step(rule.allocate(environment.scenario, environment.state))
        if step == min(1000, steps // 10):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--memory-steps", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, float] = {"cores": CORES}

    rows = []
    for rule in (Equal(), Random(), Greedy(), LookaheadGreedy()):
        wall, cpu = rate_on_all_cores(rule, users=50, copies=1024, seconds=arguments.seconds)
        name = type(rule).__name__.lower()
        rows.append({"rule": name, "million/s (wall)": wall / 1e6, "million/s (CPU)": cpu / 1e6})
        results |= {f"{name}_decisions_per_second": wall, f"{name}_decisions_per_cpu_second_times_cores": cpu}
    table(f"user-decisions per second, {CORES} processes of 1024 copies of up to 50 users", rows)

    rows = []
    for name in ("mobile-small-central-v0", "mobile-large-central-v0"):
        users, wall, cpu = mobile_env_rate(name, arguments.seconds)
        ours, ours_cpu = rate(Equal(), round(users / 0.8), 1024, arguments.seconds)
        rows.append(
            {
                "users": users,
                "mobile-env /s": wall,
                "ours /s": ours,
                "ratio": ours / wall,
                "ratio (CPU)": ours_cpu / cpu,
            }
        )
        results |= {f"mobile_env_{users}_users": wall, f"ours_{users}_users": ours, f"ratio_{users}_users": ours / wall}
    table("beside mobile-env (its package), one process each", rows)

    rows = []
    for users in (10, 100, 1000, 10_000):
        copies = max(1, 50_000 // users)
        _, cpu = rate(Equal(), users, copies, arguments.seconds / 2)
        rows.append({"users per region": users, "copies": copies, "ns per user (CPU)": 1e9 / cpu})
        results[f"ns_per_user_{users}"] = 1e9 / cpu
    table("cost per user: at most log-linear", rows)

    results["memory_growth_mib"] = memory_growth_mib(arguments.memory_steps)
    results["memory_steps"] = arguments.memory_steps
    finish(results)


if __name__ == "__main__":
    main()
