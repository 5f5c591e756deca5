"""How close the centralised leader comes to the certified bound, against other searches with as many requests.

    python benchmarks/market.py [--servers 3 10 30] [--scenarios 20] [--evaluations 40] [--minutes 9] [--report]

Markets of the default family (with more than three servers, three applications per server), numbered from 1000: none
was used in development. `composite` is ours, `bayesian` the same without the leader's knowledge of its own side;
`sobol`, `random` and `cma-es` (the package cma, started in the middle of the box) are rivals. The bound is `Optimum`'s;
with more than three servers its time limit leaves it above the optimum.

Every cell (servers, market, search) is kept under `runs/benchmarks/market`; the benchmark continues where it stopped,
and stops after `--minutes`. Only markets on which every search was run are reported.
"""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cma
import numpy as np
from harness import finish, interval, kept, options, table

from sliceoff.market import (
    Bayesian,
    Centralised,
    Composite,
    Family,
    Leader,
    MarketScenario,
    Negotiation,
    Optimum,
    Rational,
    Search,
)
from sliceoff.market.scenario import Servers
from sliceoff.market.search import sobol

CELLS = Path(__file__).parents[1] / "runs" / "benchmarks" / "market"
FIRST = 1000
OURS = "composite"


class Sobol:
    """Searches along a scrambled Sobol sequence."""

    def ask(self, past: Negotiation) -> Servers:
        return sobol(len(past.asked), past.asked.shape[1], seed=0)


class RandomSearch:
    """Searches at uniformly random points."""

    def ask(self, past: Negotiation) -> Servers:
        return np.random.default_rng(len(past.asked)).random((past.asked.shape[1],))


class CMAES:
    """CMA-ES (Hansen) in the unit cube; every call replays all earlier points and revenues."""

    def ask(self, past: Negotiation) -> Servers:
        servers = past.asked.shape[1]
        options = {"bounds": [0, 1], "seed": 1, "verbose": -9}
        strategy = cma.CMAEvolutionStrategy(servers * [0.5], 0.3, options)
        told = 0
        while True:
            points = strategy.ask()
            if len(past.asked) < told + len(points):
                return np.asarray(points[len(past.asked) - told])
            strategy.tell(points, list(-past.revenue[told : told + len(points)]))
            told += len(points)


SEARCHES: Mapping[str, Search] = {
    "composite": Composite(),
    "bayesian": Bayesian(),
    "sobol": Sobol(),
    "random": RandomSearch(),
    "cma-es": CMAES(),
}


def market(servers: int, number: int) -> MarketScenario:
    """A market of the default family with a given number of servers."""
    return Family(n_servers=servers, n_applications=10 if servers == 3 else 3 * servers).draw(FIRST + number)


def cell(servers: int, number: int, name: str, evaluations: int) -> Path:
    """The file of a search's revenues on a market; with the name `bound`, of the optimum and its bound."""
    return CELLS / f"{servers}-{number}-{name}{'' if name == 'bound' else f'-{evaluations}'}.json"


def measured(servers: int, number: int, name: str, evaluations: int) -> dict[str, object]:
    """Run a cell; returns what is kept of it."""
    scenario, begun = market(servers, number), time.perf_counter()
    if name == "bound":
        outcome = Optimum(time_limit_s=30).clear(scenario)
        content: dict[str, object] = {"revenue": [outcome.revenue], "bound": outcome.notes["bound"]}
    else:
        leader, revenue = Leader(scenario, SEARCHES[name]), []
        for _ in range(evaluations):
            asked = leader.ask()
            leader.tell(asked, *Rational().answer(scenario, asked))
            revenue.append(leader.best.revenue)
        content = {"revenue": revenue}
    return content | {"seconds": time.perf_counter() - begun}


def report(servers: int, scenarios: int, evaluations: int) -> dict[str, float]:
    """Print the table for one number of servers; returns its numbers."""
    names = ("bound", *SEARCHES)
    paths = [{name: cell(servers, number, name, evaluations) for name in names} for number in range(scenarios)]
    found = [
        {name: json.loads(path.read_text()) for name, path in of_market.items()}
        for of_market in paths
        if all(path.is_file() for path in of_market.values())
    ]
    if not found:
        print(f"{servers} servers: nothing yet; no market was cleared by every search")
        return {}
    bound = np.array([each["bound"]["bound"] for each in found])
    shares = {name: 100 * np.array([each[name]["revenue"] for each in found]) / bound[:, None] for name in names}
    rows, results = [], {f"servers_{servers}_markets": float(len(found))}
    for name in (*SEARCHES, "bound"):
        last, half_way = shares[name][:, -1], shares[name][:, (shares[name].shape[1] - 1) // 2]
        mean, half = interval(list(last))
        gain, gain_half = interval(list(shares[OURS][:, -1] - last))
        row = {
            "percent": mean,
            "half_interval": half,
            "worst": float(last.min()),
            "percent_of_markets_over_99": 100 * float((last >= 99).mean()),
            "percent_half_way": float(half_way.mean()),
            "ours_is_better_by": gain,
            "better_half_interval": gain_half,
            "seconds": float(np.mean([each[name]["seconds"] for each in found])),
        }
        rows.append({"search": "optimum as far as found" if name == "bound" else name, **row})
        results |= {f"servers_{servers}_{name}_{key}": value for key, value in row.items()}
    table(f"{servers} servers, {len(found)} markets: percent of the bound after {evaluations} requests", rows)
    return results


def main() -> None:
    """Run the benchmark for every number of servers."""
    parser = options(__doc__)
    parser.add_argument("--scenarios", type=int, default=20, help="markets of every size")
    parser.add_argument("--servers", type=int, nargs="+", default=[3, 10, 30], help="sizes of markets")
    parser.add_argument("--evaluations", type=int, default=40, help="requests that every search may make")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further cell after this long")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    given = parser.parse_args()
    begun = time.perf_counter()
    for number in range(0 if given.report else given.scenarios):
        for servers in given.servers:
            for name in ("bound", *SEARCHES):
                if time.perf_counter() - begun < 60 * given.minutes:
                    which = (servers, number, name, given.evaluations)
                    kept(cell(*which), partial(measured, *which))
    results: dict[str, float] = {}
    for servers in given.servers:
        results |= report(servers, given.scenarios, given.evaluations)
    if not given.report:
        begun = time.perf_counter()
        Centralised().clear(Family().draw(0))
        results["default_scenario_seconds"] = time.perf_counter() - begun
    finish(results)


if __name__ == "__main__":
    main()
