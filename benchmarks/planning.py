"""How good the choice among packings of the decoder `prices` is: what planning with simulated futures adds to it.

    python benchmarks/planning.py [--slot 0.5] [--users 20] [--futures 16]

In every slot, the planner takes the best packings of `prices` at three prices, simulates each for the length of a
deadline in `--futures` random futures (the same for all packings of a slot) with `prices` as the policy, and keeps the
packing that earns most on average: one step of policy improvement, at some hundred times the cost. It knows the true
mean traffic, as `prices` does here. The planner `that knows the tasks` simulates the one true future: this shows, as
far as this planner can, what is lost by not knowing it. No training, no trace.
"""

from collections import defaultdict
from functools import partial
from math import ceil, log

import torch
from harness import finish, interval, options, shown, table
from prices import Allocate, Regions

from sliceoff.allocator import Prices
from sliceoff.allocator.bid_price import bid_prices
from sliceoff.allocator.decoder import backlog_price
from sliceoff.region import (
    Allocation,
    Greedy,
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    map_state,
    serve,
    upper_bound,
)

# Rented over needed, as in `allocator.py`.
LOADS = {"matched": (2.0, 1.0), "over": (2.0, 0.6), "far over": (3.0, 0.4), "radio": (1.0, 1.0)}
COPIES, SEEDS = 4, 5
ROOMS = (1.15, 1.25, 1.6)
BEST = 10  # number of packings that are simulated
DECODER, SEARCH = Prices(), Prices(stride=2)


class Drawn:
    """Random futures, with new tasks for every slot."""

    def __init__(self, scenario: Scenario, users: float, futures: int):
        self.futures = futures
        self.pool = RegionEnvironment(scenario, users, 4096, seed=99).state.tasks
        self.draw = torch.Generator().manual_seed(0)

    def __call__(self, regions: int, plans: int, ahead: int) -> Tasks:
        """Tasks (regions * plans * futures, users) of one slot ahead, the same for all plans of a region."""
        drawn = torch.randint(len(self.pool.present), (regions, 1, self.futures), generator=self.draw)
        which = drawn.expand(-1, plans, -1).flatten()
        return Tasks(*(x[which] for x in self.pool))


class Known:
    """The one true future; must be called slot by slot, in order."""

    futures = 1

    def __init__(self, states: list[RegionState]):
        self.tasks = [state.tasks for state in states]

    def __call__(self, regions: int, plans: int, ahead: int) -> Tasks:
        """Tasks (regions * plans, users) of one slot ahead."""
        if ahead == 1:
            self.tasks = self.tasks[1:] + self.tasks[:1]  # the revenue after the last slot does not count
        return Tasks(*(x.repeat_interleave(plans, 0) for x in self.tasks[ahead - 1]))


class Planner:
    """Allocates by simulating the best packings in futures of a deadline's length."""

    def __init__(self, scenario: Scenario, futures: Drawn | Known):
        self.scenario, self.futures = scenario, futures
        self.slots = ceil(scenario.deadline_s / scenario.short_slot_s)

    def allocate(self, state: RegionState) -> Allocation:
        """Choose the packing that earns most in this slot and the futures together."""
        regions = len(state.n_vms)
        # Every region once for each room, concatenated.
        each = map_state(lambda x: x.repeat_interleave(len(ROOMS), 0), state)
        execution = -(torch.tensor(ROOMS) / SEARCH.room).log() / log(SEARCH.room_range)
        action = torch.stack((execution, torch.zeros_like(execution)), -1).repeat(regions, 1).unsqueeze(1)
        plans, after, score = SEARCH.weighed(self.scenario, each, action)
        scores = plans.by_region(score)
        width = scores.shape[-1]
        scores = scores.view(regions, -1)
        liked = scores.topk(min(BEST, scores.shape[-1]), -1)
        row = torch.arange(regions).unsqueeze(-1) * len(ROOMS) + liked.indices // width
        plan = torch.where(liked.values.isfinite(), plans.first[row] + liked.indices % width, plans.first[row[:, :1]])
        earned = after.revenue[plan].sum(-1) / self.scenario.price
        best = plan.gather(-1, (earned + self._ahead(state, after.backlog_s[plan])).argmax(-1, keepdim=True))
        return Allocation(*(field[best.squeeze(-1)] for field in plans.allocation))

    def _ahead(self, state: RegionState, backlog_s: torch.Tensor) -> torch.Tensor:
        """Mean priority earned after each plan's backlog (regions, plans, VMs), less the price of the final backlog."""
        regions, plans = backlog_s.shape[:2]
        count = self.futures.futures
        now = map_state(lambda x: x.repeat_interleave(plans * count, 0), state)
        now = now._replace(backlog_s=backlog_s.flatten(0, 1).repeat_interleave(count, 0))
        total = torch.zeros(len(now.n_vms))
        for ahead in range(1, self.slots + 1):
            now = now._replace(tasks=self.futures(regions, plans, ahead))
            after = serve(self.scenario, now, DECODER.at_rest(self.scenario, now))
            total, now = total + after.revenue.sum(-1) / self.scenario.price, now._replace(backlog_s=after.backlog_s)
        _, vm_s = bid_prices(self.scenario, now, now.expected_users, torch.ones(len(total), 1))
        total -= backlog_price(self.scenario, vm_s.squeeze(-1)) * now.backlog_s.sum(-1)
        return total.view(regions, plans, count).mean(-1)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--slot", type=float, default=0.5, help="length of the short slot [s]")
    parser.add_argument("--users", type=float, default=20.0, help="per short slot, on average")
    parser.add_argument("--futures", type=int, default=16, help="that the planner draws in every slot")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scenario = Scenario(short_slot_s=given.slot)
    drawn = Drawn(scenario, given.users, given.futures)
    above: dict[str, list[torch.Tensor]] = defaultdict(list)
    for seed in range(SEEDS):
        regions = Regions(scenario, given.users, list(LOADS.values()), COPIES, seed)
        states, greedy = regions.states(partial(Greedy().allocate, scenario))
        sides: dict[str, Allocate] = {
            "prices": partial(DECODER.at_rest, scenario),
            "planner": Planner(scenario, drawn).allocate,
            "planner that knows the tasks": Planner(scenario, Known(states)).allocate,
        }
        for name, allocate in sides.items():
            above[name].append(100 * (regions.states(allocate)[1] / greedy - 1))
        above["bound"].append(100 * (regions.by_kind(upper_bound(scenario, states)) / greedy - 1))
    by_load = {name: dict(zip(LOADS, torch.stack(runs).T.tolist(), strict=True)) for name, runs in above.items()}
    table(
        f"Revenue over greedy's in %, slots of {given.slot} s, {SEEDS} seeds, 95 % intervals",
        [{"": name} | {load: shown(values, "+") for load, values in loads.items()} for name, loads in by_load.items()],
    )
    finish(
        {
            f"{name}/{load}/above_greedy_percent": interval(values)[0]
            for name, loads in by_load.items()
            for load, values in loads.items()
        }
    )


if __name__ == "__main__":
    main()
