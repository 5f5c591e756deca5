"""Rent what earns most instead of what covers all users (P1 without the hard deadline of C6)."""

import logging

import torch
from jaxtyping import Float

from sliceoff.checks import Number, count, whole
from sliceoff.errors import OptionError
from sliceoff.region import Allocator, Greedy, Scenario, draws
from sliceoff.slicing.demand import TaskStatistics
from sliceoff.slicing.offers import Offers, pick
from sliceoff.slicing.presolve import presolve
from sliceoff.slicing.problem import PairProblem
from sliceoff.slicing.program import ExactProgram
from sliceoff.slicing.rental import Rental, SlicingRequest, offer_costs, rental
from sliceoff.slicing.revenue import RevenueTable, measure_revenue
from sliceoff.slicing.slicers import INCUMBENT, kept
from sliceoff.solver import Solver, Status

log = logging.getLogger(__name__)

_MOST_SIZES = 12


class Profit:
    """Rents the pairs of offers with the highest expected revenue less rent, under the coupling rows.

        max  sum_i sum_km (E[revenue_i^km] - rent_i^km) x_i^km    s.t.  sum_km x_i^km = 1, coupling rows, x binary

    The revenue of a pair is measured once, by simulating the region with an allocator, and averaged over equally likely
    numbers of users (`SlicingRequest.users_at`). For a region whose tasks are larger or smaller than the scenario's,
    the revenue is looked up at accordingly smaller or larger slices.

    In the rental, `uncovered` marks regions whose slice cannot carry the forecast users in the long run.

    Args:
        allocator: whose revenue is measured; `Greedy` if not given.
        n_scenarios: numbers of users per region that the revenue is averaged over.
        users_step: step of the grid on which revenue is measured, in users per short slot.
        copies, slots: a cell of the grid is the mean over `copies * slots` short slots.
        seed: seed of the tasks that revenue is measured on.
        solver, time_limit_s, gap: as for `Exact`.

    Raises:
        InputError: an argument is out of range, or an offer has more VMs than `region.max_vms`.
    """

    def __init__(
        self,
        offers: Offers,
        scenario: Scenario,
        allocator: Allocator | None = None,
        n_scenarios: int = 16,
        users_step: int = 4,
        copies: int = 4,
        slots: int = 24,
        seed: int = 0,
        solver: str = "HIGHS",
        time_limit_s: Number = 10.0,
        gap: Number = 1e-4,
    ):
        offers.check_fit(scenario)
        self._offers, self._scenario = offers, scenario
        self._allocator = Greedy() if allocator is None else allocator
        if not isinstance(self._allocator, Allocator):
            raise OptionError("allocator", f"={allocator!r} does not allocate; name a class that does in its _target_")
        self._n_scenarios, self._seed = count("n_scenarios", n_scenarios), whole("seed", seed)
        self._step = count("users_step", users_step)
        self._copies, self._slots = count("copies", copies), count("slots", slots)
        self._program = ExactProgram(Solver(solver, time_limit_s, integer=True, gap=gap))
        self._table: RevenueTable | None = None
        self._usual = TaskStatistics.prior(scenario, offers.n_regions)

    def rent(self, request: SlicingRequest) -> Rental:
        pairs = PairProblem.most(self._offers, self.expected_profit(request).numpy())
        problem = pairs.choice_problem()
        status, choice = self._program.solve(problem)
        fallback = "" if status is Status.OPTIMAL else INCUMBENT
        if choice is None:
            choice, fallback = kept(problem)
        if status is not Status.OPTIMAL:
            log.warning("slicing: %s; renting the %s", status, fallback)
        bandwidth, vms = pairs.offers_of(choice)
        capacity = request.statistics.capacity_users(
            pick(self._offers.bandwidth_hz, bandwidth), pick(self._offers.n_vms, vms), self._scenario.short_slot_s
        )
        return rental(
            self._offers,
            bandwidth,
            vms,
            previous=request.previous,
            uncovered=capacity < request.forecast,
            status=status,
            fallback=fallback,
        )

    def expected_profit(self, request: SlicingRequest) -> Float[torch.Tensor, "regions bandwidth_offers vm_offers"]:
        """Expected profit of every pair of offers [money per long slot]."""
        usual, now = self._usual, request.statistics
        users = request.users_at((torch.arange(self._n_scenarios, dtype=torch.float64) + 0.5) / self._n_scenarios)
        revenue = self.table.expected(
            self._offers.bandwidth_hz * (usual.bandwidth_mean / now.bandwidth_mean).unsqueeze(-1),
            self._offers.n_vms * (usual.vm_mean / now.vm_mean).unsqueeze(-1),
            users,
        )
        bandwidth, vms = offer_costs(self._offers, request.previous)
        scale = self._offers.long_slot_s / self._scenario.short_slot_s
        return revenue * scale - bandwidth.unsqueeze(2) - vms.unsqueeze(1)

    @property
    def table(self) -> RevenueTable:
        """Revenue by slice and users; measured at the first call, which takes seconds."""
        if self._table is None:
            most = self._scenario.max_users
            self._table = measure_revenue(
                self._scenario,
                self._allocator,
                _grid(self._offers.bandwidth_hz.unique().tolist()),
                [int(size) for size in _grid(self._offers.n_vms.unique().tolist())],
                [float(users) for users in (*range(self._step, most, self._step), most)],
                copies=self._copies,
                slots=self._slots,
                seed=self._seed + draws.REVENUE,
            )
        return self._table


def most_profit(offers: Offers, profit: Float[torch.Tensor, "regions bandwidth_offers vm_offers"]) -> float:
    """A Lagrangian upper bound on the profit of any choice of one pair per region under the coupling rows."""
    return -presolve(PairProblem.most(offers, profit.numpy()).choice_problem()).bound


def _grid(sizes: list[float]) -> list[float]:
    """The offered sizes, or 12 of them, evenly spaced, if there are more."""
    if len(sizes) <= _MOST_SIZES:
        return sizes
    places = torch.linspace(0, len(sizes) - 1, _MOST_SIZES).round().long().unique().tolist()
    return [sizes[place] for place in places]
