"""Stable-Baselines3's TD3, SAC and PPO train on our Gymnasium environment unmodified; their revenue against the rules'.

    python benchmarks/sb3.py [--steps 2000] [--seeds 5]

Both environment checkers run first, with warnings as errors. Then every agent trains with SB3's defaults, one run per
seed, and all agents and rules are evaluated on slots not used for training; intervals are 95 %, over seeds of tasks and
training.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from harness import finish, interval, options, shown, table
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env as sb3_check

from sliceoff.region import Allocation, Allocator, Equal, Greedy, Random, RegionEnvironment, Scenario, upper_bound
from sliceoff.region.gym import decode, flatten

SCENARIO = Scenario(max_users=20, max_vms=6)
REGION: dict[str, Any] = {"scenario": SCENARIO, "mean_users": 10, "bandwidth_hz": 9e6, "n_vms": 5}
COPIES, SLOTS = 32, 50
HELD_OUT = 10_000  # added to the seed of training


def of_bound(allocate: Callable[[RegionEnvironment], Allocation], seed: int) -> float:
    """Revenue over its upper bound, on slots not used for training."""
    environment = RegionEnvironment(SCENARIO, 10, COPIES, seed=HELD_OUT + seed, bandwidth_hz=9e6, n_vms=5)
    states, earned = [], 0.0
    for _ in range(SLOTS):
        states.append(environment.state)
        _, outcome = environment.step(allocate(environment))
        earned += float(outcome.revenue.sum())
    return earned / float(upper_bound(SCENARIO, states).sum())


def by_rule(rule: Allocator) -> Callable[[RegionEnvironment], Allocation]:
    return lambda environment: rule.allocate(SCENARIO, environment.state)


def by_agent(agent) -> Callable[[RegionEnvironment], Allocation]:
    def allocate(environment: RegionEnvironment) -> Allocation:
        action, _ = agent.predict(flatten(SCENARIO, environment.state).numpy(), deterministic=True)
        return decode(environment.state, torch.as_tensor(action))

    return allocate


def check() -> None:
    """Run Gymnasium's and SB3's environment checkers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(gymnasium.make("sliceoff/Region-v0", **REGION, render_mode="rgb_array").unwrapped)
        for observation in ("full", "paper"):
            sb3_check(gymnasium.make("sliceoff/Region-v0", **REGION, observation=observation).unwrapped)
    print("gymnasium's check_env and Stable-Baselines3's check_env: passed, no warning")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="of the environment, per agent")
    parser.add_argument("--seeds", type=int, default=5, help="of tasks and training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    check()
    rows, results = [], {"steps": arguments.steps, "seeds": arguments.seeds}

    def add(name: str, shares: list[float], seconds: float) -> None:
        percent = [100 * share for share in shares]
        rows.append({"allocator": name, "% of bound": shown(percent), "training s": seconds})
        key, (mean, half) = name.lower().replace(" ", "_"), interval(percent)
        results.update({f"{key}_of_bound": mean / 100, f"{key}_of_bound_95": half / 100, f"{key}_seconds": seconds})

    for rule in (Random(), Equal(), Greedy()):
        add(type(rule).__name__, [of_bound(by_rule(rule), seed) for seed in range(arguments.seeds)], 0.0)
    for algorithm in (TD3, SAC, PPO):
        shares, begun = [], time.perf_counter()
        for seed in range(arguments.seeds):
            agent = algorithm("MlpPolicy", gymnasium.make("sliceoff/Region-v0", **REGION), seed=seed, device="cpu")
            agent.learn(arguments.steps)
            shares.append(of_bound(by_agent(agent), seed))
        add(f"SB3 {algorithm.__name__}", shares, (time.perf_counter() - begun) / arguments.seeds)
    table(f"% of the bound earned, agents after {arguments.steps} steps, {arguments.seeds} seeds", rows)
    finish(results)


if __name__ == "__main__":
    main()
