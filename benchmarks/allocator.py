"""What a learned allocator gains: ours and its ablations, Stable-Baselines3's agents, the rules, and the bound.

    python benchmarks/allocator.py [--seeds 5] [--minutes 15] [--traffic TRACE.csv] [--parts rules agents sb3 ablations]

Ours is trained on the trace's training part, with traffic, rentals and loads drawn at random, once per seed and length
of the short slot; the same policy then serves every region below, with the previous period's traffic as its forecast.
SB3's agents train in the one kind of region that they are evaluated in, for as many environment steps as ours makes in
its first epochs (all agents together), after which ours is evaluated next to them. All are evaluated on the held-out
end of the trace, with the same traffic and tasks.

Each cell (allocator, slot, seed) is kept under `runs/benchmarks/allocator`; the benchmark continues where it stopped,
and stops after `--minutes`. The table shows the number of seeds of each row.
"""

import copy
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import lightning.pytorch as pl
import torch
from harness import bare_trainer, finish, interval, kept, options, shown, table
from hydra.utils import instantiate
from prices import per_user
from stable_baselines3 import PPO, SAC, TD3
from traces import LTE

from sliceoff.allocator import Prices
from sliceoff.allocator.decoder import packings
from sliceoff.data import read_wide_csv, synthetic_trace
from sliceoff.region import (
    Allocation,
    Allocator,
    Equal,
    Greedy,
    LookaheadGreedy,
    Proportional,
    RegionEnvironment,
    RegionState,
    Scenario,
    upper_bound,
)
from sliceoff.region.gym import decode, flatten
from sliceoff.region.rules import value_density
from sliceoff.run import configure

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "runs" / "benchmarks" / "allocator"
TRACE = LTE / "week_users.csv"
HELD_OUT = 0.2
# A deadline of 1 s: queues reach ten, four and two slots ahead.
SLOTS_S = (0.1, 0.25, 0.5)
# Rented over needed: bandwidth that uploads the mean traffic in one deadline, VMs that execute it in one slot.
LOADS = {"light": (3.0, 1.5), "matched": (2.0, 1.0), "over": (2.0, 0.6), "far over": (3.0, 0.4), "radio": (1.0, 1.0)}
USERS = (10.0, 25.0, 50.0)
MOST_USERS = 80  # padding: busy hours, and the spread of the Poisson draw
COPIES, PERIODS, PERIOD = 3, 3, 20


class Untrained:
    """The decoder `prices` at action zero."""

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        return Prices().at_rest(scenario, state)


class HastenedGreedy:
    """Greedy's packing, with its left-over bandwidth shared as the decoder `prices` does."""

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Take the first of the packings, which ranks all tasks by one key, here greedy's density."""
        density = value_density(scenario, state)
        plans = packings(scenario, state, density, density, stride=scenario.max_users)
        return Allocation(*(x[plans.first] for x in plans.allocation))


RULES: dict[str, Callable[[], Allocator]] = {
    "equal": Equal,
    "proportional": Proportional,
    "greedy": Greedy,
    "greedy, hastened": HastenedGreedy,
    "look-ahead": LookaheadGreedy,
    "prices, untrained": Untrained,
}
# With greedy's revenue as baseline, the paper's form takes ten times the actor's learning rate; without, it saturates.
FASTER = (
    "allocator.reward=above_greedy",
    "allocator.reward_scale=0.1",
    "allocator.distillation=0.1",
    "allocator.actor_learning_rate=3e-4",
)
SETS = ("allocator/network=set", "allocator.network.depth=1")
ALONE = "allocator.n_agents=1"
OURS = {
    "dual": ("dual",),
    "single (TD3)": ("td3",),
    "DDPG": ("ddpg",),
    "dual, no distillation": ("dual", "allocator.distillation=0.0"),
    "dual, fixed weight": ("dual", "allocator.confidence=0.0"),
    "dual, no delay": ("dual", "allocator.policy_delay=1"),
    "dual, no twin": ("dual", "allocator.n_critics=1"),
    "dual, per-user worths": ("dual", "allocator/decoder=packing", "allocator.network.depth=1"),
    "paper's form": ("paper_dual",),
    "paper's, single": ("paper_dual", ALONE),
    "paper's, no distillation": ("paper_dual", "allocator.distillation=0.0"),
    "paper's, heavy distillation": ("paper_dual", "allocator.distillation=1.0"),
    "paper's, our sets": ("paper_dual", *SETS),
    "paper's, above greedy, faster": ("paper_dual", *FASTER),
    "paper's, above greedy, faster, single": ("paper_dual", *FASTER, ALONE),
    "paper's, above greedy, faster, no distillation": ("paper_dual", *FASTER, "allocator.distillation=0.0"),
    "paper's, our decoder": ("paper_dual", "allocator/decoder=prices"),
}
# Pairs of dual and single agents whose speed of learning is compared.
PAIRS = (
    ("dual", "single (TD3)"),
    ("paper's form", "paper's, single"),
    ("paper's, above greedy, faster", "paper's, above greedy, faster, single"),
)
SB3 = {"SB3 TD3": TD3, "SB3 SAC": SAC, "SB3 PPO": PPO}
SB3_LOAD, SB3_USERS = "over", 25.0
SB3_LABEL = f"{SB3_LOAD} {SB3_USERS:g}"
BESIDE_SB3 = ("dual", "paper's form")  # two agents each, whose steps are added
ABOVE, OF_BOUND = "above greedy %", "of bound %"
SB3_EPOCHS = 2  # epochs of ours with as many environment steps as SB3's agents get


class Regions(NamedTuple):
    """Regions for one evaluation, one row per (load, users, copy), and their traffic."""

    environment: RegionEnvironment
    traffic: torch.Tensor  # (periods, rows)
    expected: torch.Tensor  # (periods, rows): each period's forecast, the traffic of the one before
    labels: list[tuple[str, float]]


class Bench:
    """Runs the cells of one trace."""

    def __init__(self, trace: str | None, epochs: int):
        values = torch.as_tensor((read_wide_csv(trace) if trace else synthetic_trace(seed=0)).values).float()
        split = int(len(values) * (1 - HELD_OUT))
        self.relative = values / values[:split].mean(0)
        self.split = split
        self.name = Path(trace).stem if trace else "synthetic"
        self.epochs = epochs

    def scenario(self, slot_s: float) -> Scenario:
        """The default scenario with another short slot, and with room for every user and VM that occurs here."""
        scenario = replace(Scenario(), short_slot_s=slot_s)
        _, vms = per_user(scenario)
        most = max(relative for _, relative in LOADS.values())
        return replace(scenario, max_users=MOST_USERS, max_vms=ceil(vms * max(USERS) * most))

    def regions(self, slot_s: float, seed: int) -> Regions:
        """Regions with held-out traffic and rentals that fit its mean."""
        scenario = self.scenario(slot_s)
        labels = [(load, n) for load in LOADS for n in USERS for _ in range(COPIES)]
        hertz, vms = per_user(scenario)
        level = torch.tensor([n for _, n in labels])
        bandwidth, count = (torch.tensor([LOADS[load][i] for load, _ in labels]) * level for i in (0, 1))
        held = self.relative[self.split - 1 :]  # the period before the first is its forecast
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(held) - 1 - PERIODS, (len(labels),), generator=draw)
        column = torch.randint(held.shape[1], (len(labels),), generator=draw)
        traffic = torch.stack([held[rows + period, column] * level for period in range(1 + PERIODS)])
        expected, traffic = (part.clamp(max=scenario.max_users) for part in (traffic[:-1], traffic[1:]))
        environment = RegionEnvironment(
            scenario,
            traffic[0],
            len(labels),
            10_000 + seed,
            bandwidth_hz=bandwidth * hertz,
            n_vms=(count * vms).round().long().clamp(1, scenario.max_vms),
        )
        return Regions(environment, traffic, expected, labels)

    def judge(self, regions: Regions, allocate: Callable[[RegionState], Allocation]) -> dict[str, float]:
        """An allocator's revenue in each kind of region."""
        environment, earned = regions.environment, torch.zeros(len(regions.labels))
        for states, served in self.slots(regions, allocate):
            del states
            earned += served
        return _by_label(regions.labels, earned / (environment.steps * environment.scenario.price))

    def slots(
        self, regions: Regions, allocate: Callable[[RegionState], Allocation]
    ) -> Iterator[tuple[RegionState, torch.Tensor]]:
        """Every slot's state, and each region's revenue in it."""
        for mean_users, expected_users in zip(regions.traffic, regions.expected, strict=True):
            regions.environment.traffic(mean_users, expected_users)
            for _ in range(PERIOD):
                state = regions.environment.state
                _, outcome = regions.environment.step(allocate(state))
                yield state, outcome.revenue.sum(-1)

    def rule(self, name: str, slot_s: float, seed: int) -> dict[str, Any]:
        """Evaluate a rule, or compute the bound."""
        regions, scenario = self.regions(slot_s, seed), self.scenario(slot_s)
        if name != "bound":
            return {"earned": self.judge(regions, partial(RULES[name]().allocate, scenario))}
        states = [state for state, _ in self.slots(regions, partial(Greedy().allocate, scenario))]
        bound = upper_bound(scenario, states) / (len(states) * scenario.price)
        return {"earned": _by_label(regions.labels, bound)}

    def early(self, name: str, slot_s: float, seed: int) -> dict[str, Any]:
        """Evaluate one of our agents after as many environment steps as SB3's."""
        return self._trained(name, slot_s, seed, SB3_EPOCHS)

    def agent(self, name: str, slot_s: float, seed: int) -> dict[str, Any]:
        """Train one of our agents, then evaluate its best weights; the curve is from its own validation."""
        return self._trained(name, slot_s, seed, self.epochs)

    def _trained(self, name: str, slot_s: float, seed: int, epochs: int) -> dict[str, Any]:
        scenario = self.scenario(slot_s)
        config, *overrides = OURS[name]
        cfg = configure(f"allocator={config}", *overrides, f"seed={seed}")
        offers = instantiate(cfg.offers, _convert_="all", n_regions=1, long_slot_s=3600)
        pl.seed_everything(seed, verbose=False)
        allocator = instantiate(cfg.allocator, _partial_=True, _convert_="all")(
            scenario=scenario,
            mean_users=(self.relative[: self.split] * torch.tensor(USERS).view(-1, 1, 1)).flatten(0, 1),
            bandwidth_options_hz=offers.bandwidth_hz[0].tolist(),
            vm_options=list(range(1, scenario.max_vms + 1)),
        )
        curve = Curve()
        started = time.perf_counter()
        bare_trainer(max_epochs=epochs, accelerator="cpu", callbacks=[curve], num_sanity_val_steps=0).fit(allocator)
        seconds = time.perf_counter() - started
        allocator.load_state_dict(curve.best)
        return {
            "earned": self.judge(self.regions(slot_s, seed), partial(allocator.allocate, scenario)),
            "steps": curve.steps,
            "above_greedy": curve.above_greedy,
            "seconds": seconds,
        }

    def sb3(self, name: str, slot_s: float, seed: int) -> dict[str, Any]:
        """Train one of SB3's agents in the kind of region in which it is evaluated, then evaluate it."""
        scenario, regions = self.scenario(slot_s), self.regions(slot_s, seed)
        own = regions.labels.index((SB3_LOAD, SB3_USERS))
        task = gymnasium.make(
            "sliceoff/Region-v0",
            scenario=scenario,
            mean_users=SB3_USERS,
            bandwidth_hz=float(regions.environment.state.bandwidth_hz[own]),
            n_vms=int(regions.environment.state.n_vms[own]),
        )
        dual = json.loads(self.cell("early", "dual", slot_s, seed).read_text())
        steps = dual["steps"][-1]
        started = time.perf_counter()
        agent = SB3[name]("MlpPolicy", task, seed=seed, device="cpu").learn(int(steps))

        def allocate(state: RegionState) -> Allocation:
            # They get the same forecast as in training, where traffic is constant.
            told = state._replace(expected_users=torch.full_like(state.expected_users, SB3_USERS))
            action, _ = agent.predict(flatten(scenario, told).numpy(), deterministic=True)
            return decode(state, torch.as_tensor(action))

        return {
            "earned": {SB3_LABEL: self.judge(regions, allocate)[SB3_LABEL]},
            "steps": [steps],
            "seconds": time.perf_counter() - started,
        }

    def cell(self, kind: str, name: str, slot_s: float, seed: int) -> Path:
        """The file of a cell."""
        slug = "".join(letter if letter.isalnum() else "_" for letter in name)
        return CELLS / self.name / f"{kind}-{slug}-{slot_s}-{seed}.json"


class Curve(pl.Callback):
    """Records environment steps of all agents and revenue over greedy's at every evaluation, and the best weights.

    `main.py` deploys the best weights, too. These evaluations use the training part of the trace only.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.above_greedy: list[float] = []
        self.best: dict[str, Any] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.steps.append(float(trainer.callback_metrics["train/env_steps"]))
        self.above_greedy.append(float(trainer.callback_metrics["val/above_greedy"]))
        if self.above_greedy[-1] == max(self.above_greedy):
            self.best = copy.deepcopy(pl_module.state_dict())


def _by_label(labels: list[tuple[str, float]], values: torch.Tensor) -> dict[str, float]:
    """Mean over copies, with keys `load users`."""
    names = [f"{load} {n:g}" for load, n in labels]
    return {
        name: float(values[[i for i, other in enumerate(names) if other == name]].mean())
        for name in dict.fromkeys(names)
    }


def wanted(parts: list[str], seeds: int) -> Iterator[tuple[str, str, float, int]]:
    """All cells to run, the most informative first."""
    every, short = range(seeds), SLOTS_S[0]
    if "rules" in parts:
        yield from (("rule", name, slot, seed) for seed in every for slot in SLOTS_S for name in (*RULES, "bound"))
    if "agents" in parts:
        yield from (("agent", name, short, seed) for seed in every for pair in PAIRS for name in pair)
    if "sb3" in parts:
        yield from (("early", name, short, seed) for seed in every for name in BESIDE_SB3)
        yield from (("sb3", name, short, seed) for seed in every for name in SB3)
    if "ablations" in parts:
        yield from (("agent", "dual", slot, seed) for seed in every for slot in SLOTS_S[1:])
        yield from (("agent", name, short, seed) for seed in every for name in OURS)


def report(bench: Bench, seeds: int) -> dict[str, float]:
    """Print tables of the finished cells; returns their numbers."""

    def read(kind: str, name: str, slot_s: float) -> dict[int, dict]:
        paths = {seed: bench.cell(kind, name, slot_s, seed) for seed in range(seeds)}
        return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}

    results: dict[str, float] = {}
    for slot_s in SLOTS_S:
        greedy, bound = read("rule", "greedy", slot_s), read("rule", "bound", slot_s)
        rows = []
        for kind, name in [("rule", name) for name in RULES] + [("agent", name) for name in OURS]:
            earned = {seed: cell["earned"] for seed, cell in read(kind, name, slot_s).items() if seed in bound}
            if not earned:
                continue
            row: dict[str, object] = {"allocator": name, "seeds": len(earned)}
            for load in LOADS:
                row |= beside(f"{load}/", earned, greedy, bound, [f"{load} {n:g}" for n in USERS])
            results |= {f"{name}/{slot_s}/{title}": mean for title, mean in numbers(row).items()}
            rows.append(row)
        for title in (ABOVE, OF_BOUND):
            columns = ["allocator", "seeds", *(f"{load}/{title}" for load in LOADS)]
            if rows:
                table(
                    f"{title}, short slot {slot_s} s, {bench.name} held out; mean over users {USERS}",
                    [{column.removesuffix(f"/{title}"): entry(row[column]) for column in columns} for row in rows],
                )
    results |= report_sb3(read)
    for dual, single in PAIRS:
        results |= steps_to(dual, read("agent", dual, SLOTS_S[0]), read("agent", single, SLOTS_S[0]))
    return results


def report_sb3(read: Callable[[str, str, float], dict[int, dict]]) -> dict[str, float]:
    """Compare SB3's agents, ours after as many environment steps, and the rules, in the region SB3's trained in."""
    slot_s = SLOTS_S[0]
    greedy, bound = read("rule", "greedy", slot_s), read("rule", "bound", slot_s)
    who = {"rule": RULES, "early": BESIDE_SB3, "sb3": SB3}
    rows = []
    for kind, name in [(kind, name) for kind, names in who.items() for name in names]:
        earned = {seed: cell["earned"] for seed, cell in read(kind, name, slot_s).items() if seed in bound}
        if earned:
            rows.append({"allocator": name, "seeds": len(earned)} | beside("", earned, greedy, bound, [SB3_LABEL]))
    if not rows:
        return {}
    table(
        f"{SB3_LABEL} users, short slot {slot_s} s, agents after the environment steps of {SB3_EPOCHS} epochs of dual",
        [{column: entry(value) for column, value in row.items()} for row in rows],
    )
    return {f"{row['allocator']}/{SB3_LABEL}/{title}": mean for row in rows for title, mean in numbers(row).items()}


def beside(
    prefix: str, earned: dict[int, dict], greedy: dict[int, dict], bound: dict[int, dict], labels: list[str]
) -> dict[str, object]:
    """For each seed the total revenue of some regions, relative to greedy's and to the bound."""

    def ratios(base: dict[int, dict]) -> list[float]:
        return [
            100 * sum(one[label] for label in labels) / sum(base[seed]["earned"][label] for label in labels)
            for seed, one in earned.items()
        ]

    return {
        f"{prefix}{ABOVE}": [ratio - 100 for ratio in ratios(greedy)],
        f"{prefix}{OF_BOUND}": ratios(bound),
    }


def numbers(row: dict[str, object]) -> dict[str, float]:
    """Means over seeds of the entries of a row that are lists over seeds."""
    return {name: interval(value)[0] for name, value in row.items() if isinstance(value, list)}


def entry(value: object) -> str:
    """A table cell's text: a list over seeds becomes its mean and interval."""
    return shown(value, "+") if isinstance(value, list) else str(value)


def steps_to(name: str, dual: dict[int, dict], single: dict[int, dict]) -> dict[str, float]:
    """Share of the single agent's steps after which dual stays at its final return or above; 1 if never before.

    Counted in two ways: by the steps of each agent, and by those of all agents together, of which dual makes twice as
    many. For comparison, the same share for the single agent of the next seed: the effect of chance alone.
    """
    seeds = sorted(dual.keys() & single.keys())
    if not seeds:
        return {}
    following = dict(zip(seeds, (*seeds[1:], seeds[0]), strict=True))
    shares = {
        "dual, steps of each": [_share_of_steps(dual[seed], single[seed], 2) for seed in seeds],
        "dual, steps of all": [_share_of_steps(dual[seed], single[seed], 1) for seed in seeds],
        "another single": [_share_of_steps(single[following[seed]], single[seed], 1) for seed in seeds],
    }
    means = {who: interval(values) for who, values in shares.items()}
    table(
        f"{name}: steps until a single agent's final return (its last three evaluations), in its steps",
        [
            {"": who, "seeds": len(seeds), "mean": mean, "95 % +-": half, "aim": 2 / 3}
            for who, (mean, half) in means.items()
        ],
    )
    return {f"{name}/share_of_steps/{who}": mean for who, (mean, _) in means.items()} | {
        f"{name}/share_of_steps/{who}/half_interval": half for who, (_, half) in means.items()
    }


def _share_of_steps(learner: dict, yardstick: dict, agents: int) -> float:
    """Steps per agent after which `learner` stays at the yardstick's final return, over the yardstick's steps."""
    final = sum(yardstick["above_greedy"][-3:]) / 3
    below = [i for i, value in enumerate(learner["above_greedy"]) if value < final]
    reached = below[-1] + 1 if below else 0
    if reached == len(learner["steps"]):
        return 1.0
    return min(learner["steps"][reached] / agents / yardstick["steps"][-1], 1.0)


def main() -> None:
    parts = ["rules", "agents", "sb3", "ablations"]
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="of tasks and training")
    parser.add_argument("--minutes", type=float, default=15.0, help="start no further cell after this long")
    parser.add_argument("--epochs", type=int, default=10, help="that ours trains")
    parser.add_argument(
        "--traffic", help="a CSV as data=wide_csv reads it; lte/week_users.csv of $SLICEOFF_DATA if not given"
    )
    parser.add_argument("--parts", nargs="*", default=parts, choices=parts, help="all if not given")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    traffic = given.traffic or (str(TRACE) if TRACE.is_file() else None)
    if traffic is None:
        print(f"there is no {TRACE} (set $SLICEOFF_DATA, or --traffic): using the synthetic trace instead")
    bench, started = Bench(traffic, given.epochs), time.monotonic()
    for kind, name, slot_s, seed in wanted(given.parts, given.seeds):
        path = bench.cell(kind, name, slot_s, seed)
        if path.is_file():
            continue
        if time.monotonic() - started > 60 * given.minutes:
            print("out of time; repeat the command to continue")
            break
        kept(path, partial(getattr(bench, kind), name, slot_s, seed))
        print(path.stem, f"{time.monotonic() - started:.0f} s", flush=True)
    finish(report(bench, given.seeds))


if __name__ == "__main__":
    main()
