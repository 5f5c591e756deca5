"""What one step of planning by simulated futures adds to the decoder `prices`: how good its choice among packings is.

    python benchmarks/planning.py [--slot 0.5] [--users 20] [--futures 16]

Every slot, the planner takes the packings of three prices that `prices` likes best, plays each through a deadline ahead
in `--futures` futures with tasks drawn anew (the same for all of a slot's packings) and `prices` as its policy, and
keeps the packing that earns most on average: one step of policy improvement, some hundred times as dear. It knows the
true mean traffic, as `prices` does here. No training, no trace.
"""

import argparse
from functools import partial
from math import ceil
from operator import itemgetter
from statistics import fmean

import torch
from harness import finish, interval, table
from prices import Allocate, Regions

from sliceoff.allocator import Prices
from sliceoff.allocator.bid_price import bid_prices, likely_users
from sliceoff.allocator.decoder import packings
from sliceoff.region import (
    Allocation,
    Greedy,
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    bandwidth_work,
    execution_work,
    map_state,
    serve,
    upper_bound,
)

# Rented over needed, as in `allocator.py`.
LOADS = {"matched": (2.0, 1.0), "over": (2.0, 0.6), "far over": (3.0, 0.4), "radio": (1.0, 1.0)}
COPIES, SEEDS = 4, 5
ROOMS = (1.15, 1.25, 1.6)
BEST = 10  # packings that are played through
DECODER = Prices()


def untrained(scenario: Scenario, state: RegionState) -> Allocation:
    """`Prices` at action zero."""
    return DECODER(scenario, state, state.bandwidth_hz.new_zeros(len(state.n_vms), 1, 2))


def backlog_price(scenario: Scenario, state: RegionState, users: torch.Tensor) -> torch.Tensor:
    """What `Prices` charges at action zero for a second left in the queues, (regions,)."""
    _, price = bid_prices(scenario, state, users, torch.ones(len(users), 1))
    return price.squeeze(-1) + fmean(scenario.priorities) / scenario.deadline_s


class Planner:
    """Plays the best packings through futures of a deadline's length."""

    def __init__(self, scenario: Scenario, users: float, futures: int):
        self.scenario, self.futures = scenario, futures
        self.slots = ceil(scenario.deadline_s / scenario.short_slot_s)
        self.pool = RegionEnvironment(scenario, users, 4096, seed=99).state.tasks
        self.draw = torch.Generator().manual_seed(0)

    def allocate(self, state: RegionState) -> Allocation:
        """The packing that earns most in this slot and the futures together."""
        scenario, regions = self.scenario, len(state.n_vms)
        users = likely_users(state, DECODER.forecast_weight)
        # Every region once per room, one after the other.
        each = map_state(lambda x: x.repeat_interleave(len(ROOMS), 0), state)
        room = torch.tensor(ROOMS).repeat(regions).unsqueeze(-1)
        hertz_s, vm_s = bid_prices(scenario, each, users.repeat_interleave(len(ROOMS)), room)
        worth = each.tasks.priority - vm_s * execution_work(scenario, each.tasks)
        plans = packings(scenario, each, worth, worth - hertz_s * bandwidth_work(scenario, each.tasks), stride=2)
        region = plans.row // len(ROOMS)
        after = serve(scenario, map_state(itemgetter(region), state), plans.allocation)
        earned = after.revenue.sum(-1) / scenario.price
        score = earned - backlog_price(scenario, state, users)[region] * after.backlog_s.sum(-1)
        count = region.bincount()
        first = count.cumsum(0) - count
        scores = torch.full((regions, int(count.max())), -torch.inf)
        scores[region, torch.arange(len(region)) - first[region]] = score
        liked = scores.topk(min(BEST, scores.shape[-1]), -1)
        plan = torch.where(liked.values.isfinite(), first.unsqueeze(-1) + liked.indices, first.unsqueeze(-1))
        best = plan.gather(-1, (earned[plan] + self._ahead(state, after.backlog_s[plan])).argmax(-1, keepdim=True))
        return Allocation(*(field[best.squeeze(-1)] for field in plans.allocation))

    def _ahead(self, state: RegionState, backlog_s: torch.Tensor) -> torch.Tensor:
        """Mean priority earned after every plan's backlog (regions, plans, VMs), less the price of what is left."""
        regions, plans = backlog_s.shape[:2]
        now = map_state(lambda x: x.repeat_interleave(plans * self.futures, 0), state)
        now = now._replace(backlog_s=backlog_s.flatten(0, 1).repeat_interleave(self.futures, 0))
        total = torch.zeros(len(now.n_vms))
        for _ in range(self.slots):
            drawn = torch.randint(len(self.pool.present), (regions, 1, self.futures), generator=self.draw)
            which = drawn.expand(-1, plans, -1).flatten()  # the same for all plans of a region
            now = now._replace(tasks=Tasks(*(x[which] for x in self.pool)))
            after = serve(self.scenario, now, untrained(self.scenario, now))
            total, now = total + after.revenue.sum(-1) / self.scenario.price, now._replace(backlog_s=after.backlog_s)
        total -= backlog_price(self.scenario, now, now.expected_users) * now.backlog_s.sum(-1)
        return total.view(regions, plans, self.futures).mean(-1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slot", type=float, default=0.5)
    parser.add_argument("--users", type=float, default=20.0)
    parser.add_argument("--futures", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenario = Scenario(short_slot_s=options.slot)
    planner = Planner(scenario, options.users, options.futures)
    sides: dict[str, Allocate] = {"prices": partial(untrained, scenario), "planner": planner.allocate}
    above: dict[str, list[torch.Tensor]] = {name: [] for name in (*sides, "bound")}
    for seed in range(SEEDS):
        regions = Regions(scenario, options.users, list(LOADS.values()), COPIES, seed)
        states, greedy = regions.states(partial(Greedy().allocate, scenario))
        for name, allocate in sides.items():
            above[name].append(100 * (regions.states(allocate)[1] / greedy - 1))
        above["bound"].append(100 * (regions.by_kind(upper_bound(scenario, states)) / greedy - 1))
    means = {name: [interval(values) for values in torch.stack(runs).T.tolist()] for name, runs in above.items()}
    table(
        f"Revenue over greedy's in %, slots of {options.slot} s, {SEEDS} seeds, 95 % intervals",
        [
            {"": name} | {load: f"{mean:+.2f} ±{half:.2f}" for load, (mean, half) in zip(LOADS, values, strict=True)}
            for name, values in means.items()
        ],
    )
    finish(
        {
            f"{name}/{load}/above_greedy_percent": mean
            for name, values in means.items()
            for load, (mean, _) in zip(LOADS, values, strict=True)
        }
    )


if __name__ == "__main__":
    main()
