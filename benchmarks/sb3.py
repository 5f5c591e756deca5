"""Stable-Baselines3's TD3, SAC and PPO train on the Gymnasium face unmodified; what they earn beside the rules.

python benchmarks/sb3.py [--steps 5000]
"""

import argparse
import time

import gymnasium
import torch
from harness import finish, table
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env

from sliceoff.region import Allocation, Allocator, Equal, Greedy, Random, RegionEnvironment, Scenario
from sliceoff.region.gym import decode, flatten

SCENARIO = Scenario(max_users=20, max_vms=6)
REGION = {"scenario": SCENARIO, "mean_users": 10, "bandwidth_hz": 9e6, "n_vms": 5}


def revenue_share(allocate, slots: int = 200, copies: int = 32) -> float:
    """Part of all revenue that is earned over slots no agent was trained on."""
    environment = RegionEnvironment(SCENARIO, 10, copies, seed=12345, bandwidth_hz=9e6, n_vms=5)
    earned = asked = 0.0
    for _ in range(slots):
        state = environment.state
        _, outcome = environment.step(allocate(environment))
        earned += float(outcome.revenue.sum())
        asked += float((SCENARIO.price * state.tasks.priority * state.tasks.present).sum())
    return earned / asked


def by_rule(rule: Allocator):
    return lambda environment: rule.allocate(SCENARIO, environment.state)


def by_agent(agent):
    def allocate(environment: RegionEnvironment) -> Allocation:
        action, _ = agent.predict(flatten(SCENARIO, environment.state).numpy(), deterministic=True)
        return decode(environment.state, torch.as_tensor(action))

    return allocate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    check_env(gymnasium.make("sliceoff/Region-v0", **REGION).unwrapped)
    rows, results = [], {"steps": steps}
    for rule in (Random(), Equal(), Greedy()):
        share = revenue_share(by_rule(rule))
        rows.append({"allocator": type(rule).__name__, "revenue earned": share, "training s": 0.0})
        results[f"{type(rule).__name__.lower()}_revenue_share"] = share
    for algorithm in (TD3, SAC, PPO):
        started = time.perf_counter()
        agent = algorithm("MlpPolicy", gymnasium.make("sliceoff/Region-v0", **REGION), seed=0, device="cpu")
        agent.learn(steps)
        seconds = time.perf_counter() - started
        share = revenue_share(by_agent(agent))
        rows.append({"allocator": f"SB3 {algorithm.__name__}", "revenue earned": share, "training s": seconds})
        results[f"{algorithm.__name__.lower()}_revenue_share"] = share
        results[f"{algorithm.__name__.lower()}_seconds"] = seconds
    table(f"part of all revenue earned, agents after {steps} steps", rows)
    finish(results)


if __name__ == "__main__":
    main()
