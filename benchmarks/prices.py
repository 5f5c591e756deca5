"""What learning can add to the decoder `prices`: constant actions in many kinds of regions, greedy and the bound.

Also how large an action's effect is against noise.

    python benchmarks/prices.py [--slot 0.1] [--users 20]

No training, constant traffic, no trace: nothing here is tuned on the data of `allocator.py`. A policy that knew the
best constant for every kind of region would earn the row `best of these`, which hindsight makes slightly too high.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from unittest.mock import patch

import torch
from harness import finish, options, table

from sliceoff.allocator import Prices
from sliceoff.region import (
    Allocation,
    Greedy,
    RegionEnvironment,
    RegionState,
    Scenario,
    need_per_user,
    upper_bound,
)

# Rented over needed, as in `allocator.py`.
BANDWIDTHS, VMS = (1.0, 1.4, 2.0, 4.0), (0.4, 0.6, 0.8, 1.0, 1.3)
KINDS = list(product(BANDWIDTHS, VMS))
ROOMS = (1.0, 1.1, 1.2, 1.35, 1.5, 2.0)
COPIES, SLOTS = 6, 60
SCARCE = (2.0, 0.6)
GAMMAS, AHEAD = (0.9, 0.95, 0.99, 1.0), 20
Allocate = Callable[[RegionState], Allocation]


def per_user(scenario: Scenario) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean need of a user, from the sample of the published figures."""
    return need_per_user(scenario, RegionEnvironment(scenario, 0.0, 64, seed=0).state.tasks)


class Regions:
    """Regions with constant traffic, with `copies` of every kind."""

    def __init__(self, scenario: Scenario, users: float, kinds: list[tuple[float, float]], copies: int, seed: int = 5):
        hertz, vms = (mean * users for mean in per_user(scenario))
        rented = torch.tensor(kinds).repeat_interleave(copies, 0)
        self.scenario, self.copies = scenario, copies
        self.environment = RegionEnvironment(
            scenario,
            users,
            len(rented),
            seed=seed,
            bandwidth_hz=rented[:, 0] * hertz,
            n_vms=(rented[:, 1] * vms).round().long().clamp(1, scenario.max_vms),
        )

    def states(self, allocate: Allocate) -> tuple[list[RegionState], torch.Tensor]:
        """Every slot's state, and the revenue of each kind of region over all slots."""
        states, earned = [], torch.zeros(self.environment.n_copies)
        self.environment.reset()
        for _ in range(SLOTS):
            states.append(self.environment.state)
            earned += self.environment.step(allocate(states[-1]))[1].revenue.sum(-1)
        return states, self.by_kind(earned)

    def by_kind(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the copies of each kind."""
        return values.view(-1, self.copies).sum(-1)


def headroom(scenario: Scenario, users: float) -> dict[str, float]:
    """Compare constant rooms and the bound with greedy."""
    regions = Regions(scenario, users, KINDS, COPIES)
    states, greedy = regions.states(lambda state: Greedy().allocate(scenario, state))
    above = {
        f"room {room}": regions.states(partial(Prices(room=room).at_rest, scenario))[1] / greedy - 1 for room in ROOMS
    }
    above["best of these"] = torch.stack(list(above.values())).amax(0)
    with patch("sliceoff.allocator.decoder.hasten", lambda bandwidth_s, share, *_: share):
        at_rest = partial(Prices().at_rest, scenario)
        above["default, left-over bandwidth in proportion"] = regions.states(at_rest)[1] / greedy - 1
    above["bound"] = regions.by_kind(upper_bound(scenario, states)) / greedy - 1
    table(
        f"Revenue over greedy's in %, VMs {VMS}, slots of {scenario.short_slot_s} s",
        [
            {
                "": name,
                **{
                    f"bandwidth {bandwidth}": " ".join(f"{100 * x:+.1f}" for x in row)
                    for bandwidth, row in zip(BANDWIDTHS, part.view(len(BANDWIDTHS), -1).tolist(), strict=True)
                },
                "mean": f"{100 * part.mean():+.2f}",
                "worst": f"{100 * part.min():+.2f}",
            }
            for name, part in above.items()
        ],
    )
    return {f"{name}/mean_above_greedy_percent": 100 * float(part.mean()) for name, part in above.items()} | {
        f"{name}/worst_above_greedy_percent": 100 * float(part.min()) for name, part in above.items()
    }


def signal(scenario: Scenario, users: float, copies: int = 96, slots: int = 120) -> dict[str, float]:
    """The effect of one unit of the first action on the discounted revenue of the next slots, by least squares.

    Actions are uniformly random; the revenue is that above a shadow region's, with the same tasks and action zero.
    """
    ours, shadow = (Regions(scenario, users, [SCARCE], copies).environment for _ in range(2))
    generator, decoder = torch.Generator().manual_seed(0), Prices()
    actions, earned = [], []
    for _ in range(slots):
        action = 2 * torch.rand(copies, 1, 2, generator=generator) - 1
        outcomes = [
            regions.step(decoder(scenario, regions.state, taken))[1].revenue.sum(-1)
            for regions, taken in ((ours, action), (shadow, torch.zeros_like(action)))
        ]
        actions.append(action.squeeze(1))
        earned.append((outcomes[0] - outcomes[1]) / (scenario.price * 2))
    moved, rewards = torch.stack(actions[:-AHEAD]), torch.stack(earned)
    features = torch.stack((torch.ones_like(moved[..., 0]), *moved.unbind(-1), *moved.square().unbind(-1)), -1)
    features = features.flatten(0, 1).double()
    rows, results = [], dict[str, float]()
    for gamma in GAMMAS:
        ahead = [gamma**step * rewards[step : step + len(moved)] for step in range(AHEAD)]
        future = torch.stack(ahead).sum(0).flatten().double()
        weights = torch.linalg.lstsq(features, future.unsqueeze(-1)).solution.flatten()
        left = (future - features @ weights).var()
        half = 1.96 * float((left * torch.linalg.inv(features.T @ features)[1, 1]).sqrt())
        rows.append(
            {"gamma": gamma, "effect": float(weights[1]), "95 % +-": half, "luck (st. dev.)": float(future.std())}
        )
        results |= {f"effect_gamma_{gamma}": float(weights[1]), f"effect_gamma_{gamma}_half_interval": half}
    table(f"A step of the price by one: mean tasks earned in the next {AHEAD} slots, {len(features)} slots", rows)
    return results


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--slot", type=float, default=0.1, help="length of the short slot [s]")
    parser.add_argument("--users", type=float, default=20.0, help="per short slot, on average")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scenario = replace(Scenario(), short_slot_s=given.slot)
    finish(headroom(scenario, given.users) | signal(scenario, given.users))


if __name__ == "__main__":
    main()
