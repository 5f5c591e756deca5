"""The leader's programs in python-mip: dispatch for given capacities (B2), and capacities chosen with it (B2 + B3)."""

from dataclasses import dataclass, field
from math import inf, isfinite

import mip
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize

from sliceoff.market.scenario import MarketScenario
from sliceoff.slicing.solver import Solver, quiet

_GAP = 1e-7
_FIRST_TANGENTS = 5
_NOTHING = 1e-9
_MANY_PAIRS = 500


@dataclass(frozen=True)
class Dispatch:
    """w_nm [Gcycle/s] and x_nm, and their value [money/s]."""

    work: Float[np.ndarray, "applications servers"]
    hosted: Bool[np.ndarray, "applications servers"]
    value: float

    @classmethod
    def of(
        cls,
        scenario: MarketScenario,
        work: Float[np.ndarray, "applications servers"],
        hosted: Bool[np.ndarray, "applications servers"],
        capacity: Float[np.ndarray, " servers"],
    ) -> "Dispatch":
        """A solver's work as a dispatch: its tolerance (about 1e-7) is taken off, so that (B1) holds to rounding."""
        work = np.where(hosted, work, 0.0)
        sent = work.sum(1)
        work = work * np.minimum(1.0, _ratio(scenario.load, sent))[:, None]
        room = np.maximum(0.0, capacity - np.where(hosted, scenario.overhead, 0.0).sum(0))
        work = work * np.minimum(1.0, _ratio(room, work.sum(0)))
        return cls(work, hosted, float(scenario.value @ work.sum(1)))

    def allotted(self, scenario: MarketScenario) -> Float[np.ndarray, " servers"]:
        """f_m by (B1) [Gcycle/s]."""
        return (self.work + np.where(self.hosted, scenario.overhead, 0.0)).sum(0)


class DispatchProgram:
    """(B2), built once: `V(f) = max sum_nm v_n w_nm` under (B1) and capacities f.

    Args:
        eligible: applications that may take part; all unless given.
        time_limit_s: per solve; then the best dispatch found counts.
    """

    def __init__(
        self,
        scenario: MarketScenario,
        eligible: Bool[np.ndarray, " applications"] | None = None,
        time_limit_s: float = 3.0,
    ):
        self._scenario = scenario
        self._solver = Solver("HIGHS", time_limit_s, integer=True, gap=_GAP)
        self._model = self._solver.open()
        possible = scenario.possible if eligible is None else scenario.possible & eligible[:, None]
        self._pairs = Pairs(self._model, scenario, possible)
        self._room = [self._model.add_constr(used <= 0) for used in self._pairs.used()]
        self._model.objective = mip.minimize(-self._pairs.worth(scenario.value))

    def solve(self, capacity: Float[np.ndarray, " servers"]) -> Dispatch:
        """The best dispatch within `capacity`."""
        for row, room in zip(self._room, capacity, strict=True):
            row.rhs = max(0.0, float(room))
        self._pairs.narrow()
        solution = self._solver.solve(self._model, self._pairs.columns)
        return self._pairs.dispatch(solution.values, capacity)


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

    def narrow(self) -> None:
        """Of many pairs, leave those that the relaxation uses, and every application's two nearest servers.

        A solver alone finds good hostings of whole applications late (kernel search, Angelelli et al. 2010).
        """
        if len(self.indices) <= _MANY_PAIRS:
            return
        for hosted in self.hosted:
            hosted.ub = 1.0
        with quiet():
            self.model.optimize(max_seconds=1e9, relax=True)  # a limit set before would stand
        used = [(work.x or 0.0) > _NOTHING for work in self.work]  # read before anything is changed
        near = np.argsort(np.where(self.possible, self.scenario.overhead, inf), axis=1)[:, :2]
        for (n, m), hosted, relaxed in zip(self.indices, self.hosted, used, strict=True):
            hosted.ub = float(relaxed or m in near[n])

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
        capacity: Float[np.ndarray, " servers"],
    ) -> Dispatch:
        """A solver's columns as a dispatch that keeps (B1) exactly; nothing where there is no solution."""
        work, hosted = np.zeros(self.possible.shape), np.zeros(self.possible.shape, dtype=bool)
        if values is not None and self.indices:
            rows, columns = np.array(self.indices).T
            raw_work, raw_hosted = np.split(values, 2)
            hosted[rows, columns] = (raw_hosted > 0.5) & (raw_work > _NOTHING)
            work[rows, columns] = raw_work
        return Dispatch.of(self.scenario, work, hosted, capacity)


def _ratio(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """`have / want`, 1 where nothing is wanted."""
    return np.divide(have, want, out=np.ones_like(want), where=want > 0)


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
    round adds the tangents at its solution (Kelley's cutting planes), until bound and true value meet. The value is
    flat there, so that the capacities are known less well: `refined` has the last word on them.

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
    best, value, bound = (nothing, np.zeros(len(scenario.capacity))), 0.0, float(scenario.value @ scenario.load)

    for number in range(rounds):
        dispatch, bought = contracts.solve(solver)
        if (lower := model.objective_bound) is not None and isfinite(lower):
            bound = min(bound, -lower)
        if (earned := dispatch.value - float(curve(bought).sum())) > value:
            value, best = earned, (dispatch, bought)
        if bound - value <= tolerance * max(1.0, value) or solver.seconds >= time_limit_s:
            break
        solver.time_limit_s = time_limit_s - solver.seconds
        # Where HiGHS gave up (what it calls optimal is off by its tolerance), tangents elsewhere make another program.
        add_tangents(bought if lower is not None else (number + 0.5) / rounds * scenario.capacity)
    dispatch, bought = refined(scenario, curve, *best)
    return Purchase(dispatch, bought, max(bound, dispatch.value - float(curve(bought).sum())))


def refined(
    scenario: MarketScenario, curve: Curve, dispatch: Dispatch, bought: Float[np.ndarray, " servers"]
) -> tuple[Dispatch, Float[np.ndarray, " servers"]]:
    """The best work and capacities for the hosting of `dispatch`, to rounding: a small convex program (SLSQP)."""
    hired, least = bought > 0, np.minimum(curve.least, scenario.capacity)
    if not hired.any():
        return dispatch, bought
    pairs, n_hired = np.argwhere(dispatch.hosted), int(hired.sum())
    value, capacity = scenario.value[pairs[:, 0]], scenario.capacity[hired]
    linear, quadratic, least = curve.linear[hired], curve.quadratic[hired], least[hired]
    # x = (w_nm, f_m) of hosted pairs and hired servers; what is left of capacity and load must not be negative.
    to_server = (pairs[:, 1] == np.flatnonzero(hired)[:, None]).astype(float)
    to_application = (pairs[:, 0] == np.arange(len(scenario.load))[:, None]).astype(float)
    left = np.block([[-to_server, np.eye(n_hired)], [-to_application, np.zeros((len(scenario.load), n_hired))]])
    overhead = np.where(dispatch.hosted, scenario.overhead, 0.0).sum(0)
    found = minimize(
        lambda x: linear @ x[len(pairs) :] + quadratic @ x[len(pairs) :] ** 2 - value @ x[: len(pairs)],
        np.append(dispatch.work[dispatch.hosted], bought[hired]),
        jac=lambda x: np.append(-value, linear + 2 * quadratic * x[len(pairs) :]),
        bounds=[(0.0, None)] * len(pairs) + list(zip(least, capacity, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda x: left @ x + np.append(-overhead[hired], scenario.load),
            "jac": lambda _: left,
        },
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    work, room = np.zeros(scenario.possible.shape), np.zeros(len(bought))
    work[dispatch.hosted], room[hired] = np.maximum(found.x[: len(pairs)], 0.0), found.x[len(pairs) :].clip(0, capacity)
    better = Dispatch.of(scenario, work, work > _NOTHING, room)
    used = np.zeros(len(bought))
    used[hired] = np.maximum(better.allotted(scenario)[hired], least)
    if better.value - curve(used).sum() <= dispatch.value - curve(bought).sum():
        return dispatch, bought
    return better, used


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
        dispatch = self.pairs.dispatch(values, capacity)
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
    pairs.narrow()
    columns = [variable for on, place in segments for variable in (*on, *place)]
    solution = solver.solve(model, columns)
    if solution.values is None:
        return np.zeros(len(scenario.capacity))
    on_segment, places = solution.values.reshape(len(segments), 2, -1).swapaxes(0, 1)
    return (on_segment * menus.asked[:, :-1] + places * np.diff(menus.asked)).sum(1)
