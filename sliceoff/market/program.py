"""The leader's programs in python-mip: dispatch for given capacities (B2), and capacities chosen with it (B2 + B3)."""

from dataclasses import dataclass, field
from math import inf, isfinite

import mip
import numpy as np
from jaxtyping import Bool, Float

from sliceoff.market.scenario import MarketScenario
from sliceoff.slicing.solver import Solver

_GAP = 1e-7
_FIRST_TANGENTS = 5


@dataclass(frozen=True)
class Dispatch:
    """w_nm [Gcycle/s] and x_nm, and their value [money/s]."""

    work: Float[np.ndarray, "applications servers"]
    hosted: Bool[np.ndarray, "applications servers"]
    value: float

    def allotted(self, scenario: MarketScenario) -> Float[np.ndarray, " servers"]:
        """f_m by (B1) [Gcycle/s]."""
        return (self.work + np.where(self.hosted, scenario.overhead, 0.0)).sum(0)


class DispatchProgram:
    """(B2), built once: `V(f) = max sum_nm u_n w_nm` under (B1) and capacities f.

    Args:
        weights: u_n, worth of a Gcycle; v_n unless given.
        eligible: applications that may take part; all unless given.
        time_limit_s: per solve; then the best dispatch found counts.
    """

    def __init__(
        self,
        scenario: MarketScenario,
        weights: Float[np.ndarray, " applications"] | None = None,
        eligible: Bool[np.ndarray, " applications"] | None = None,
        time_limit_s: float = 10.0,
    ):
        self._scenario = scenario
        self._weights = scenario.value if weights is None else weights
        self._solver = Solver("HIGHS", time_limit_s, integer=True, gap=_GAP)
        self._model = self._solver.open()
        possible = scenario.possible if eligible is None else scenario.possible & eligible[:, None]
        self._pairs = Pairs(self._model, scenario, possible)
        self._room = [self._model.add_constr(used <= 0) for used in self._pairs.used()]
        worth = self._pairs.worth(self._weights)
        self._model.objective = mip.minimize(-worth)

    def solve(self, capacity: Float[np.ndarray, " servers"]) -> Dispatch:
        """The best dispatch within `capacity`."""
        for row, room in zip(self._room, capacity, strict=True):
            row.rhs = max(0.0, float(room))
        solution = self._solver.solve(self._model, self._pairs.columns)
        return self._pairs.dispatch(solution.values, self._weights, capacity)


@dataclass
class Pairs:
    """The variables of (B1): w_nm and x_nm of possible pairs only, with their rows."""

    model: mip.Model
    scenario: MarketScenario
    possible: Bool[np.ndarray, "applications servers"]
    indices: list[tuple[int, int]] = field(init=False)
    work: list[mip.Var] = field(init=False)
    hosted: list[mip.Var] = field(init=False)

    def __post_init__(self) -> None:
        scenario, model = self.scenario, self.model
        self.indices = [(int(n), int(m)) for n, m in np.argwhere(self.possible)]
        self.work = [model.add_var(lb=0.0) for _ in self.indices]
        self.hosted = [model.add_var(var_type=mip.BINARY) for _ in self.indices]
        for (n, m), w, x in zip(self.indices, self.work, self.hosted, strict=True):
            model += w <= float(min(scenario.load[n], scenario.capacity[m] - scenario.overhead[n, m])) * x
        for n in range(len(scenario.load)):
            sent = [w for (i, _), w in zip(self.indices, self.work, strict=True) if i == n]
            if sent:
                model += mip.xsum(sent) <= float(scenario.load[n])

    @property
    def columns(self) -> list[mip.Var]:
        """All variables: the work, then the hosting."""
        return [*self.work, *self.hosted]

    def used(self) -> list[mip.LinExpr]:
        """f_m of every server."""
        terms: list[list] = [[] for _ in self.scenario.capacity]
        for (n, m), w, x in zip(self.indices, self.work, self.hosted, strict=True):
            terms[m].append(w + float(self.scenario.overhead[n, m]) * x)
        return [mip.xsum(of_server) if of_server else mip.LinExpr() for of_server in terms]

    def worth(self, weights: Float[np.ndarray, " applications"]) -> mip.LinExpr:
        """sum_nm u_n w_nm."""
        pairs = zip(self.indices, self.work, strict=True)
        return mip.xsum([float(weights[n]) * w for (n, _), w in pairs]) if self.indices else mip.LinExpr()

    def dispatch(
        self,
        values: Float[np.ndarray, " columns"] | None,
        weights: Float[np.ndarray, " applications"],
        capacity: Float[np.ndarray, " servers"],
    ) -> Dispatch:
        """A solver's columns as a dispatch that keeps (B1) exactly; nothing where there is no solution."""
        work, hosted = np.zeros(self.possible.shape), np.zeros(self.possible.shape, dtype=bool)
        if values is not None and self.indices:
            rows, columns = np.array(self.indices).T
            raw_work, raw_hosted = np.split(values, 2)
            hosted[rows, columns] = (raw_hosted > 0.5) & (raw_work > 1e-9)
            work[rows, columns] = np.maximum(raw_work, 0.0)
        work = exact(self.scenario, np.where(hosted, work, 0.0), hosted, capacity)
        return Dispatch(work, hosted, float(weights @ work.sum(1)))


def exact(
    scenario: MarketScenario,
    work: Float[np.ndarray, "applications servers"],
    hosted: Bool[np.ndarray, "applications servers"],
    capacity: Float[np.ndarray, " servers"],
) -> Float[np.ndarray, "applications servers"]:
    """Take a solver's tolerance (about 1e-7) off `work`, so that demand and capacity hold to rounding."""
    sent = work.sum(1)
    work = work * np.minimum(1.0, np.divide(scenario.load, sent, out=np.ones_like(sent), where=sent > 0))[:, None]
    room = np.maximum(0.0, capacity - np.where(hosted, scenario.overhead, 0.0).sum(0))
    used = work.sum(0)
    return work * np.minimum(1.0, np.divide(room, used, out=np.ones_like(used), where=used > 0))


@dataclass(frozen=True)
class Curve:
    """What capacity costs the platform: `linear f + quadratic f^2 + fixed` where any is bought, and at least `least`.

    All (servers,).
    """

    linear: Float[np.ndarray, " servers"]
    quadratic: Float[np.ndarray, " servers"]
    fixed: Float[np.ndarray, " servers"]
    least: Float[np.ndarray, " servers"]

    def __call__(self, bought: Float[np.ndarray, " servers"]) -> Float[np.ndarray, " servers"]:
        """[money/s]."""
        return np.where(bought > 0, self.linear * bought + self.quadratic * bought**2 + self.fixed, 0.0)


@dataclass(frozen=True)
class Purchase:
    """Capacities and a dispatch chosen together.

    Args:
        bought: f_m [Gcycle/s].
        bound: no choice whatever earns more than this [money/s].
    """

    dispatch: Dispatch
    bought: Float[np.ndarray, " servers"]
    bound: float


def best_purchase(
    scenario: MarketScenario, curve: Curve, tolerance: float = 1e-6, rounds: int = 30, time_limit_s: float = 30.0
) -> Purchase:
    """(B2) and (B3) as one program: maximise `sum v_n w_nm - sum_m curve_m(f_m)`.

    The convex curve is replaced by tangents from below, so that the program's bound is one for the true problem; each
    round adds the tangents at its solution (Kelley's cutting planes), until bound and true value meet.

    Args:
        tolerance: relative distance of bound and value at which to stop.
        time_limit_s: of all rounds together; the bound stays valid.
    """
    solver = Solver("HIGHS", time_limit_s, integer=True, gap=_GAP)
    model = solver.open()
    contracts = Contracts(model, scenario, curve.least)
    fixed = mip.xsum(float(cost) * hired for cost, hired in zip(curve.fixed, contracts.hired, strict=True))
    model.objective = mip.minimize(mip.xsum(contracts.spent) + fixed - contracts.pairs.worth(scenario.value))

    def add_tangents(at: Float[np.ndarray, " servers"]) -> None:
        contracts.add_lines(curve.linear + 2 * curve.quadratic * at, -curve.quadratic * at**2)

    for part in np.linspace(0, 1, _FIRST_TANGENTS):
        add_tangents(part * scenario.capacity)
    nothing = Dispatch(np.zeros(scenario.possible.shape), np.zeros_like(scenario.possible), 0.0)
    best, value, bound = (nothing, np.zeros(len(scenario.capacity))), 0.0, inf
    for _ in range(rounds):
        dispatch, bought = contracts.solve(solver)
        if isfinite(lower := model.objective_bound):
            bound = min(bound, -lower)
        if (earned := dispatch.value - float(curve(bought).sum())) > value:
            value, best = earned, (dispatch, bought)
        if bound - value <= tolerance * max(1.0, value) or solver.seconds >= time_limit_s:
            break
        add_tangents(bought)
    return Purchase(*best, max(bound, value))


class Contracts:
    """Variables of a program that buys capacity: pairs, f_m, whether a server is hired, and what f_m costs.

    Args:
        least: smallest f_m that a hired server sells [Gcycle/s].
    """

    def __init__(self, model: mip.Model, scenario: MarketScenario, least: Float[np.ndarray, " servers"]):
        self.model, self.scenario = model, scenario
        self.least = np.minimum(least, scenario.capacity)
        self.pairs = Pairs(model, scenario, scenario.possible)
        self.bought = [model.add_var(lb=0.0) for _ in scenario.capacity]
        self.hired = [model.add_var(var_type=mip.BINARY) for _ in scenario.capacity]
        self.spent = [model.add_var(lb=0.0) for _ in scenario.capacity]
        for m, used in enumerate(self.pairs.used()):
            model += used <= self.bought[m]
            model += self.bought[m] <= float(scenario.capacity[m]) * self.hired[m]
            model += self.bought[m] >= float(self.least[m]) * self.hired[m]

    def add_lines(self, slope: Float[np.ndarray, " servers"], intercept: Float[np.ndarray, " servers"]) -> None:
        """Let what is spent on f_m be at least `slope f_m + intercept`, where the server is hired."""
        for m, (spent, bought, hired) in enumerate(zip(self.spent, self.bought, self.hired, strict=True)):
            self.model += spent >= float(slope[m]) * bought + float(intercept[m]) * hired

    def solve(self, solver: Solver) -> tuple[Dispatch, Float[np.ndarray, " servers"]]:
        """Solve, and read the dispatch and what it buys; nothing where there is no solution."""
        count = len(self.bought)
        solution = solver.solve(self.model, [*self.pairs.columns, *self.bought])
        values = None if solution.values is None else solution.values[:-count]
        capacity = np.zeros(count) if solution.values is None else solution.values[-count:]
        capacity = np.clip(capacity, 0.0, self.scenario.capacity)
        dispatch = self.pairs.dispatch(values, self.scenario.value, capacity)
        used = dispatch.allotted(self.scenario)
        return dispatch, np.where(used > 0, np.maximum(used, self.least), 0.0)


@dataclass(frozen=True)
class Menus:
    """What servers are thought to answer: at every step of capacity asked for, what they give and want for it.

    All (servers, steps), rising in `asked`; [Gcycle/s, Gcycle/s, money/s]. Nothing is to be had for nothing, too.
    """

    asked: Float[np.ndarray, "servers steps"]
    given: Float[np.ndarray, "servers steps"]
    wanted: Float[np.ndarray, "servers steps"]


def best_choice(scenario: MarketScenario, menus: Menus, time_limit_s: float) -> Float[np.ndarray, " servers"]:
    """The requests [Gcycle/s] that earn most if servers answer as in `menus`, between steps by straight lines.

    Curves of any shape: each server is asked on one segment at most (a binary), at one place of it (the multiple-choice
    model of a piecewise linear function, Balakrishnan & Graves 1989).
    """
    solver = Solver("HIGHS", time_limit_s, integer=True, gap=1e-3)
    model = solver.open()
    pairs = Pairs(model, scenario, scenario.possible)
    spent, segments = mip.LinExpr(), []
    for m, used in enumerate(pairs.used()):
        on = [model.add_var(var_type=mip.BINARY) for _ in menus.asked[m, 1:]]
        place = [model.add_var(lb=0.0) for _ in on]
        for chosen, part in zip(on, place, strict=True):
            model += part <= chosen
        model += mip.xsum(on) <= 1

        def along(curve: Float[np.ndarray, " steps"], on: list = on, place: list = place) -> mip.LinExpr:
            starts = [float(start) * chosen for start, chosen in zip(curve, on, strict=False)]
            return mip.xsum(starts) + mip.xsum(float(rise) * t for rise, t in zip(np.diff(curve), place, strict=True))

        model += used <= along(menus.given[m])
        spent += along(menus.wanted[m])
        segments.append((on, place))
    model.objective = mip.minimize(spent - pairs.worth(scenario.value))
    columns = [variable for on, place in segments for variable in (*on, *place)]
    solution = solver.solve(model, columns)
    if solution.values is None:
        return np.zeros(len(scenario.capacity))
    on_segment, places = solution.values.reshape(len(segments), 2, -1).swapaxes(0, 1)
    return (on_segment * menus.asked[:, :-1] + places * np.diff(menus.asked)).sum(1)
