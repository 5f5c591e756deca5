"""What planning by simulated futures adds to the decoder `prices`, as far as an allocator that does not know the tasks
to come can go.

    python benchmarks/planning.py [--slot 0.5] [--users 20] [--futures 16]

Every slot, the planner takes the packings of three prices that `prices` likes best, plays each through the next second
in `--futures` futures with tasks drawn anew (the same for all of a slot's packings) and `prices` as its policy, and
keeps the packing that earns most on average: one step of policy improvement, some hundred times as dear. It knows the
true mean traffic, as `prices` does here. No training, no trace.
"""

import argparse
from functools import partial
from itertools import product

import torch
from harness import finish, interval, table
from prices import Allocate, Regions

from sliceoff.allocator import Prices
from sliceoff.allocator.bid_price import bid_prices, likely_users
from sliceoff.allocator.decoder import Plans, packings
from sliceoff.region import (
    Allocation,
    Greedy,
    RegionEnvironment,
    RegionState,
    Scenario,
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


def untrained(scenario: Scenario, state: RegionState) -> Allocation:
    """`Prices` at action zero."""
    return Prices()(scenario, state, state.bandwidth_hz.new_zeros(len(state.n_vms), 1, 2))


class Planner:
    """Plays the best packings through futures of `slots` slots."""

    def __init__(self, scenario: Scenario, users: float, futures: int):
        self.scenario, self.futures = scenario, futures
        self.slots = max(2, round(scenario.deadline_s / scenario.short_slot_s))
        self.pool = RegionEnvironment(scenario, users, 4096, seed=99).state.tasks
        self.draw = torch.Generator().manual_seed(0)

    def allocate(self, state: RegionState) -> Allocation:
        """The packing that earns most in this slot and the futures together."""
        scenario, users = self.scenario, likely_users(state, Prices().forecast_weight)
        plans = [self._plans(state, users, room) for room in ROOMS]
        earned, left = zip(*(self._served(state, each) for each in plans), strict=True)
        width = max(int(each.place.max()) + 1 for each in plans)
        score = torch.full((len(ROOMS), len(users), width), -torch.inf)
        _, price = bid_prices(scenario, state, users, torch.ones(len(users), 1))
        price = price + sum(scenario.priorities) / len(scenario.priorities) / scenario.deadline_s
        for number, each in enumerate(plans):
            now = earned[number] / scenario.price - price[each.row, 0] * left[number].sum(-1)
            score[number, each.row, each.place] = now
        liked = score.transpose(0, 1).flatten(1).topk(BEST, -1)
        number, place = liked.indices // width, liked.indices % width
        total = torch.full_like(liked.values, -torch.inf)
        chosen = [
            torch.zeros(*liked.indices.shape, field.shape[-1], dtype=field.dtype) for field in plans[0].allocation
        ]
        tasks = [self._future(len(users)) for _ in range(self.slots)]
        for rank, which in product(range(BEST), range(len(ROOMS))):
            rows = ((number[:, rank] == which) & liked.values[:, rank].isfinite()).nonzero().squeeze(-1)
            if not len(rows):
                continue
            each = plans[which]
            index = (each.place == 0).nonzero().squeeze(-1)[rows] + place[rows, rank]
            total[rows, rank] = earned[which][index] + self._ahead(state, rows, left[which][index], tasks)
            for kept, field in zip(chosen, each.allocation, strict=True):
                kept[rows, rank] = field[index]
        best = total.argmax(-1)
        return Allocation(*(field[torch.arange(len(best)), best] for field in chosen))

    def _plans(self, state: RegionState, users: torch.Tensor, room: float) -> Plans:
        hertz_s, vm_s = bid_prices(self.scenario, state, users, torch.full((len(users), 1), room))
        worth = state.tasks.priority - vm_s * execution_work(self.scenario, state.tasks)
        return packings(self.scenario, state, worth, worth - hertz_s * bandwidth_work(self.scenario, state.tasks), 2)

    def _served(self, state: RegionState, plans: Plans) -> tuple[torch.Tensor, torch.Tensor]:
        after = serve(self.scenario, map_state(lambda x: x[plans.row], state), plans.allocation)
        return after.revenue.sum(-1), after.backlog_s

    def _future(self, regions: int) -> torch.Tensor:
        """Whose tasks of the pool come next, (regions, futures)."""
        return torch.randint(len(self.pool.present), (regions, self.futures), generator=self.draw)

    def _ahead(
        self, state: RegionState, rows: torch.Tensor, backlog_s: torch.Tensor, tasks: list[torch.Tensor]
    ) -> torch.Tensor:
        """Mean revenue of the slots to come, less the price of what they leave."""
        repeated = map_state(lambda x: x[rows].repeat_interleave(self.futures, 0), state)
        backlog_s, total = backlog_s.repeat_interleave(self.futures, 0), torch.zeros(len(rows) * self.futures)
        for drawn in tasks:
            which = drawn[rows].flatten()
            now = repeated._replace(tasks=type(self.pool)(*(x[which] for x in self.pool)), backlog_s=backlog_s)
            after = serve(self.scenario, now, untrained(self.scenario, now))
            total, backlog_s = total + after.revenue.sum(-1), after.backlog_s
        _, price = bid_prices(self.scenario, now, now.expected_users, torch.ones(len(total), 1))
        total = total - self.scenario.price * price.squeeze(-1) * backlog_s.sum(-1)
        return total.view(len(rows), self.futures).mean(-1)


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
