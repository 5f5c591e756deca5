"""The leader's programs in python-mip: dispatch for given capacities (B2), and capacities chosen with it (B2 + B3).

Solvers' tolerances are absolute. So columns of work, capacity and money are in percent of the largest possible amount,
and the program does not depend on the market's units.
"""

from dataclasses import dataclass, field
from math import inf, isfinite

import mip
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize

from sliceoff.errors import InputError
from sliceoff.market.scenario import MarketScenario
from sliceoff.market.servers import affordable, greatest_surplus
from sliceoff.solver import Solution, Solver, Status, quiet

_GAP = 1e-7
_SECONDS = 3.0  # per dispatch; then the best one found counts
_FIRST_TANGENTS = 5
_ROUNDING = 1e-6  # of a bound, relative to the value
_NOTHING = 1e-9  # share of a pair's most work
_MANY_PAIRS = 500
_WHOLE = 100.0  # percent
_LITTLE = 0.1  # percent of the greatest surplus: the relative tolerance is of at least this much revenue
_DEAR = 1e6  # percent of all prepayments: larger rewards are cut to this, at which nothing is chosen either


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
        """A solver's work as a dispatch, scaled down by its tolerance (about 1e-7) so that (B1) holds to rounding."""
        work = np.where(hosted, work, 0.0)
        sent = work.sum(1)
        work = work * np.minimum(1.0, _ratio(scenario.load, sent))[:, None]
        room = np.maximum(0.0, capacity - np.where(hosted, scenario.overhead, 0.0).sum(0))
        work = work * np.minimum(1.0, _ratio(room, work.sum(0)))
        return cls(work, hosted, float(scenario.value @ work.sum(1)))

    def allotted(self, scenario: MarketScenario) -> Float[np.ndarray, " servers"]:
        """f_m, the capacity that (B1) takes of every server [Gcycle/s]."""
        return (self.work + np.where(self.hosted, scenario.overhead, 0.0)).sum(0)


class DispatchProgram:
    """(B2), built once: `V(f) = max sum_nm v_n w_nm` under (B1) and capacities f.

    Args:
        eligible: applications that may take part; all unless given.

    Raises:
        InputError: on solving, if the solver fails.
    """

    def __init__(self, scenario: MarketScenario, eligible: Bool[np.ndarray, " applications"] | None = None):
        self._scenario = scenario
        self._solver = Solver("HIGHS", _SECONDS, integer=True, gap=_GAP)
        self._model = self._solver.open()
        possible = scenario.possible if eligible is None else scenario.possible & eligible[:, None]
        self._pairs = Pairs(self._model, scenario, possible, scenario.useful)
        self._room = [self._model.add_constr(used <= 0) for used in self._pairs.used()]
        self._model.objective = mip.minimize(-self._pairs.worth(scenario.value / _money(scenario)))

    def solve(self, capacity: Float[np.ndarray, " servers"]) -> Dispatch:
        """The best dispatch within `capacity`."""
        if not self._pairs.indices:
            return self._pairs.dispatch(None, capacity)
        for row, share in zip(self._room, _ratio(capacity, self._scenario.useful), strict=True):
            row.rhs = _WHOLE * float(np.clip(share, 0.0, 1.0))
        self._pairs.narrow()
        solution = self._solver.solve(self._model, self._pairs.columns)
        if not answered(solution):
            raise unsolved(solution.status)
        return self._pairs.dispatch(solution.values, capacity)


def answered(solution: Solution) -> bool:
    """Whether the solver finished or used up its time. It may have found nothing: then the dispatch is empty."""
    return solution.status in (Status.OPTIMAL, Status.TIME_LIMIT)


def unsolved(reason: str) -> InputError:
    """The error to raise if the solver fails on a program, since all of them have solutions."""
    return InputError(
        f"market: its program could not be solved ({reason}); its facts are out of proportion, give nearer magnitudes"
    )


@dataclass
class Pairs:
    """The variables of (B1) with their rows, for possible pairs only: w_nm in percent of its maximum, and x_nm.

    Args:
        room: capacity of each server that may be used [Gcycle/s].
    """

    model: mip.Model
    scenario: MarketScenario
    possible: Bool[np.ndarray, "applications servers"]
    room: Float[np.ndarray, " servers"]
    most: Float[np.ndarray, "applications servers"] = field(init=False)
    indices: list[tuple[int, int]] = field(init=False)
    work: list[mip.Var] = field(init=False)
    hosted: list[mip.Var] = field(init=False)

    def __post_init__(self) -> None:
        scenario, model = self.scenario, self.model
        self.most = np.minimum(scenario.load[:, None], self.room - scenario.overhead)
        self.indices = [(int(n), int(m)) for n, m in np.argwhere(self.possible & (self.most > 0))]
        self.work = [model.add_var(lb=0.0) for _ in self.indices]
        self.hosted = [model.add_var(var_type=mip.BINARY) for _ in self.indices]
        for w, x in zip(self.work, self.hosted, strict=True):
            model += w <= _WHOLE * x
        for n, load in enumerate(scenario.load):
            pairs = zip(self.indices, self.work, strict=True)
            sent = [float(self.most[pair] / load) * w for pair, w in pairs if pair[0] == n]
            if sent:
                model += mip.xsum(sent) <= _WHOLE

    @property
    def columns(self) -> list[mip.Var]:
        """All variables: the work, then the hosting."""
        return [*self.work, *self.hosted]

    def narrow(self) -> None:
        """If there are many pairs, keep those that the relaxation uses, and every application's two nearest servers.

        Without this the solver takes long to find good solutions (kernel search, Angelelli et al. 2010).
        """
        if len(self.indices) <= _MANY_PAIRS:
            return
        for hosted in self.hosted:
            hosted.ub = 1.0
        with quiet():
            self.model.optimize(max_seconds=1e9, relax=True)  # or an earlier limit would stay in force
        used = [(work.x or 0.0) > _NOTHING for work in self.work]  # read before anything is changed
        near = np.argsort(np.where(self.possible, self.scenario.overhead, inf), axis=1)[:, :2]
        for (n, m), hosted, relaxed in zip(self.indices, self.hosted, used, strict=True):
            hosted.ub = float(relaxed or m in near[n])

    def used(self) -> list[mip.LinExpr]:
        """f_m of every server, in percent of its room."""
        terms: list[list] = [[] for _ in self.room]
        for (n, m), w, x in zip(self.indices, self.work, self.hosted, strict=True):
            room = self.room[m]
            terms[m].append(float(self.most[n, m] / room) * w + float(_WHOLE * self.scenario.overhead[n, m] / room) * x)
        return [mip.xsum(of_server) if of_server else mip.LinExpr() for of_server in terms]

    def worth(self, weights: Float[np.ndarray, " applications"]) -> mip.LinExpr:
        """The expression sum_nm u_n w_nm with u_n the `weights`."""
        pairs = zip(self.indices, self.work, strict=True)
        terms = [float(weights[n] * self.most[n, m] / _WHOLE) * w for (n, m), w in pairs]
        return mip.xsum(terms) if terms else mip.LinExpr()

    def dispatch(
        self,
        values: Float[np.ndarray, " columns"] | None,
        capacity: Float[np.ndarray, " servers"],
    ) -> Dispatch:
        """A solver's columns as a dispatch that keeps (B1) to rounding; empty if there is no solution."""
        work, hosted = np.zeros(self.possible.shape), np.zeros(self.possible.shape, dtype=bool)
        if values is not None and self.indices:
            rows, columns = np.array(self.indices).T
            shares, raw_hosted = np.split(values, 2) / np.array([[_WHOLE], [1.0]])
            hosted[rows, columns] = (raw_hosted > 0.5) & (shares > _NOTHING)
            work[rows, columns] = shares * self.most[rows, columns]
        return Dispatch.of(self.scenario, work, hosted, capacity)


def _money(scenario: MarketScenario) -> float:
    """One percent of the worth of all offered work [money/s]; 1 if that is worth nothing."""
    return float(scenario.value @ scenario.load) / _WHOLE or 1.0


def _ratio(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """`have / want`, 1 where `want` is 0."""
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
        """Cost of the capacities `bought` [money/s]."""
        return np.where(bought > 0, self.linear * bought + self.quadratic * bought**2 + self.fixed, 0.0)


@dataclass(frozen=True)
class Purchase:
    """Capacities and a dispatch chosen together.

    Args:
        bought: f_m [Gcycle/s].
        bound: no other choice earns more than this [money/s].
    """

    dispatch: Dispatch
    bought: Float[np.ndarray, " servers"]
    bound: float


def best_purchase(
    scenario: MarketScenario, curve: Curve, tolerance: float = 1e-6, rounds: int = 30, time_limit_s: float = 30.0
) -> Purchase:
    """(B2) and (B3) as one program: maximise `sum v_n w_nm - sum_m curve_m(f_m)`.

    The convex curve is replaced by tangents from below, so that the program's bound also bounds the true problem; each
    round adds the tangents at its solution (Kelley's cutting planes), until bound and true value meet. The value is
    flat around the optimum, so the capacities are less precise than it: `refined` improves them at the end.

    Args:
        curve: nowhere below C_m.
        tolerance: relative gap between bound and value at which to stop.
        time_limit_s: of all rounds together; the bound stays valid.

    Raises:
        InputError: the solver fails in every round, or its bound is below the value found.
    """
    solver = Solver("HIGHS", time_limit_s, integer=True, gap=_GAP)
    model = solver.open()
    contracts = Contracts(model, scenario, curve.least)
    nothing = Dispatch(np.zeros(scenario.possible.shape), np.zeros_like(scenario.possible), 0.0)
    best, value, bound = (nothing, np.zeros(len(scenario.capacity))), 0.0, float(scenario.value @ scenario.load)
    if not contracts.room.any():
        return Purchase(*best, bound=0.0)
    money = contracts.money
    fixed = mip.xsum(float(cost) * hired for cost, hired in zip(curve.fixed / money, contracts.hired, strict=True))
    worth = contracts.pairs.worth(scenario.value / money)
    model.objective = mip.minimize(mip.xsum(contracts.spent) + fixed - worth)

    def add_tangents(at: Float[np.ndarray, " servers"]) -> None:
        contracts.add_lines(curve.linear + 2 * curve.quadratic * at, -curve.quadratic * at**2)

    for part in np.linspace(0, 1, _FIRST_TANGENTS):
        add_tangents(part * contracts.room)
    certified = False
    for number in range(rounds):
        solution, dispatch, bought = contracts.solve(solver)
        certified |= answered(solution)
        lower = model.objective_bound if answered(solution) else None
        if lower is not None and isfinite(lower):
            bound = min(bound, -lower * money)
        if (earned := dispatch.value - float(curve(bought).sum())) > value:
            value, best = earned, (dispatch, bought)
        if bound - value <= tolerance * max(value, _LITTLE * money) or solver.seconds >= time_limit_s:
            break
        solver.time_limit_s = time_limit_s - solver.seconds
        # If HiGHS failed (its optimum violates its own tolerance), tangents elsewhere change the program.
        add_tangents(bought if lower is not None else (number + 0.5) / rounds * contracts.room)
    if not certified:
        raise unsolved(solution.status)
    dispatch, bought = refined(scenario, curve, *best)
    earned = dispatch.value - float(curve(bought).sum())
    if earned - bound > _ROUNDING * max(earned, money):
        raise unsolved("the solver's bound lies below what was found")
    return Purchase(dispatch, bought, max(bound, earned))


def refined(
    scenario: MarketScenario, curve: Curve, dispatch: Dispatch, bought: Float[np.ndarray, " servers"]
) -> tuple[Dispatch, Float[np.ndarray, " servers"]]:
    """The best work and capacities for the hosting of `dispatch`, to rounding: a small convex program (SLSQP)."""
    hired, least = bought > 0, np.minimum(curve.least, scenario.capacity)
    if not hired.any():
        return dispatch, bought
    pairs, n_hired = np.argwhere(dispatch.hosted), int(hired.sum())
    # x = (w_nm / L_n, f_m / capacity bought) of hosted pairs and hired servers; money relative to the prepayments.
    load, unit = scenario.load[pairs[:, 0]], bought[hired]
    value = scenario.value[pairs[:, 0]] * load / dispatch.value
    linear, quadratic = curve.linear[hired] * unit / dispatch.value, curve.quadratic[hired] * unit**2 / dispatch.value
    # The capacity and load left must not be negative.
    to_server = (pairs[:, 1] == np.flatnonzero(hired)[:, None]) * load / unit[:, None]
    to_application = (pairs[:, 0] == np.arange(len(scenario.load))[:, None]).astype(float)
    left = np.block([[-to_server, np.eye(n_hired)], [-to_application, np.zeros((len(scenario.load), n_hired))]])
    overhead = np.where(dispatch.hosted, scenario.overhead, 0.0).sum(0)[hired] / unit
    found = minimize(
        lambda x: linear @ x[len(pairs) :] + quadratic @ x[len(pairs) :] ** 2 - value @ x[: len(pairs)],
        np.append(dispatch.work[dispatch.hosted] / load, np.ones(n_hired)),
        jac=lambda x: np.append(-value, linear + 2 * quadratic * x[len(pairs) :]),
        bounds=[*[(0.0, None)] * len(pairs), *zip(least[hired] / unit, scenario.capacity[hired] / unit, strict=True)],
        constraints={
            "type": "ineq",
            "fun": lambda x: left @ x + np.append(-overhead, np.ones(len(scenario.load))),
            "jac": lambda _: left,
        },
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    share, room = np.zeros(scenario.possible.shape), np.zeros(len(bought))
    share[dispatch.hosted] = found.x[: len(pairs)]
    room[hired] = (found.x[len(pairs) :] * unit).clip(0, scenario.capacity[hired])
    better = Dispatch.of(scenario, share * scenario.load[:, None], share > _NOTHING, room)
    used = np.zeros(len(bought))
    used[hired] = np.maximum(better.allotted(scenario), least)[hired]
    if better.value - curve(used).sum() <= dispatch.value - curve(bought).sum():
        return dispatch, bought
    return better, used


class Contracts:
    """Variables of a program that buys capacity: pairs, f_m, whether a server is hired, and what f_m costs.

    Args:
        least: smallest f_m that a hired server sells [Gcycle/s].

    Attributes:
        room: the most that may be bought of each server [Gcycle/s]; f_m is in percent of it.
        money: unit of costs: one percent of the greatest surplus [money/s].
    """

    def __init__(self, model: mip.Model, scenario: MarketScenario, least: Float[np.ndarray, " servers"]):
        self.model, self.scenario = model, scenario
        self.least, most = np.minimum(least, scenario.capacity), affordable(scenario)
        # A server may have to sell more than is useful, to earn the least profit.
        room = np.maximum(np.minimum(scenario.useful, most), self.least)
        self.room = np.where((scenario.useful > 0) & (self.least <= most), room, 0.0)
        self.money = greatest_surplus(scenario) / _WHOLE
        self.pairs = Pairs(model, scenario, scenario.possible, self.room)
        self.bought = [model.add_var(lb=0.0) for _ in scenario.capacity]
        self.hired = [model.add_var(var_type=mip.BINARY) for _ in scenario.capacity]
        self.spent = [model.add_var(lb=0.0) for _ in scenario.capacity]
        least_share = np.divide(self.least, self.room, out=np.zeros_like(self.room), where=self.room > 0)
        for m, used in enumerate(self.pairs.used()):
            model += used <= self.bought[m]
            model += self.bought[m] <= _WHOLE * self.hired[m]
            model += self.bought[m] >= _WHOLE * float(least_share[m]) * self.hired[m]

    def add_lines(self, slope: Float[np.ndarray, " servers"], intercept: Float[np.ndarray, " servers"]) -> None:
        """Require that the spending on f_m is at least `slope f_m + intercept` if the server is hired."""
        slope, intercept = slope * self.room / _WHOLE / self.money, intercept / self.money
        for m, (spent, bought, hired) in enumerate(zip(self.spent, self.bought, self.hired, strict=True)):
            self.model += spent >= float(slope[m]) * bought + float(intercept[m]) * hired

    def solve(self, solver: Solver) -> tuple[Solution, Dispatch, Float[np.ndarray, " servers"]]:
        """Solve, and read the dispatch and the capacities that it buys; both empty if there is no solution."""
        count = len(self.bought)
        solution = solver.solve(self.model, [*self.pairs.columns, *self.bought])
        values = None if solution.values is None else solution.values[:-count]
        shares = np.zeros(count) if solution.values is None else solution.values[-count:] / _WHOLE
        dispatch = self.pairs.dispatch(values, np.clip(shares, 0.0, 1.0) * self.room)
        used = dispatch.allotted(self.scenario)
        return solution, dispatch, np.where(used > 0, np.maximum(used, self.least), 0.0)


@dataclass(frozen=True)
class Menus:
    """Servers' predicted answers: for every step of capacity asked for, what they give and want for it.

    All (servers, steps), rising in `asked`; [Gcycle/s, Gcycle/s, money/s]. Not asking a server is always possible.
    """

    asked: Float[np.ndarray, "servers steps"]
    given: Float[np.ndarray, "servers steps"]
    wanted: Float[np.ndarray, "servers steps"]


def best_choice(scenario: MarketScenario, menus: Menus, time_limit_s: float) -> Float[np.ndarray, " servers"]:
    """The requests [Gcycle/s] that earn most if servers answer as in `menus`, with linear interpolation between steps.

    Curves may have any shape: each server is asked on at most one segment (a binary), at one point of it (the
    multiple-choice model of a piecewise linear function, Balakrishnan & Graves 1989).
    """
    solver = Solver("HIGHS", time_limit_s, integer=True, gap=1e-3)
    model = solver.open()
    pairs = Pairs(model, scenario, scenario.possible, scenario.useful)
    money, given = _money(scenario), _WHOLE * scenario.share_of_useful(menus.given.T).T
    wanted = np.minimum(menus.wanted / money, _DEAR)
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

        model += used <= along(given[m])
        spent += along(wanted[m])
        segments.append((on, place))
    model.objective = mip.minimize(spent - pairs.worth(scenario.value / money))
    pairs.narrow()
    columns = [variable for on, place in segments for variable in (*on, *place)]
    solution = solver.solve(model, columns)
    if solution.values is None:
        return np.zeros(len(scenario.capacity))
    on_segment, places = solution.values.reshape(len(segments), 2, -1).swapaxes(0, 1)
    return (on_segment * menus.asked[:, :-1] + places * np.diff(menus.asked)).sum(1)
