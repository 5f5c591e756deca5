"""How near the centralised leader comes to the certified bound, beside other searches at equally many requests.

    python benchmarks/market.py [--scenarios 40] [--servers 3 10 30] [--evaluations 40]

Markets of the default family (with 3 to 4 applications per server beyond three servers), numbered from 1000: none was
looked at before. `composite` is ours, `bayesian` the same without what the leader knows of its own side, `sobol`,
`random` and `cma-es` (the package cma, started in the middle of the box) the rivals. The bound is `Optimum`'s.
"""

import argparse
import time
from collections.abc import Mapping

import cma
import numpy as np
from harness import finish, table
from scipy import stats

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
from sliceoff.market.search import Servers, sobol

FIRST = 1000


class Sobol:
    """A scrambled Sobol sequence."""

    def ask(self, past: Negotiation) -> Servers:
        """See `Search`."""
        return sobol(len(past.asked), past.asked.shape[1], seed=0)


class RandomSearch:
    """Uniform points."""

    def ask(self, past: Negotiation) -> Servers:
        """See `Search`."""
        return np.random.default_rng(len(past.asked)).uniform(size=past.asked.shape[1])


class CMAES:
    """Hansen's evolution strategy in the unit cube; asked and told afresh from all that is known."""

    def ask(self, past: Negotiation) -> Servers:
        """See `Search`."""
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


def shares(scenario: MarketScenario, search: Search, bound: float, evaluations: int) -> list[float]:
    """Share of the bound that is earned after every request."""
    leader, found = Leader(scenario, search), []
    for _ in range(evaluations):
        asked = leader.ask()
        leader.tell(asked, *Rational().answer(scenario, asked))
        found.append(leader.best.revenue / bound)
    return found


def compare(servers: int, scenarios: int, evaluations: int) -> dict[str, float]:
    """All searches on markets with so many servers."""
    family = Family(n_servers=servers, n_applications=10 if servers == 3 else 3 * servers)
    markets = [family.draw(FIRST + number) for number in range(scenarios)]
    bounds = [Optimum(time_limit_s=30).clear(market).notes["bound"] for market in markets]
    rows, results = [], {}
    for name, search in SEARCHES.items():
        begun = time.perf_counter()
        found = np.array([shares(m, search, bound, evaluations) for m, bound in zip(markets, bounds, strict=True)])
        seconds = (time.perf_counter() - begun) / scenarios
        last = found[:, -1]
        half = float(stats.sem(last) * stats.t.ppf(0.975, scenarios - 1)) if scenarios > 1 else float("inf")
        row = {
            "mean_percent": 100 * float(last.mean()),
            "half_interval": 100 * half,
            "worst_percent": 100 * float(last.min()),
            "share_over_99_percent": 100 * float((last >= 0.99).mean()),
            f"mean_percent_after_{evaluations // 2}": 100 * float(found[:, evaluations // 2 - 1].mean()),
            "seconds_per_market": seconds,
        }
        rows.append({"search": name, **row})
        results |= {f"servers_{servers}_{name}_{key}": value for key, value in row.items()}
    table(f"{servers} servers, {scenarios} markets: share of the bound after {evaluations} requests", rows)
    return results


def main() -> None:
    """Compare for every number of servers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", type=int, default=40, help="with 3 servers; a quarter of them with more")
    parser.add_argument("--servers", type=int, nargs="+", default=[3, 10, 30])
    parser.add_argument("--evaluations", type=int, default=40)
    given = parser.parse_args()
    results: dict[str, float] = {}
    for servers in given.servers:
        scenarios = given.scenarios if servers <= 3 else max(2, given.scenarios // 4)
        results |= compare(servers, scenarios, given.evaluations)
    begun = time.perf_counter()
    Centralised().clear(Family().draw(0))
    finish(results | {"default_scenario_seconds": time.perf_counter() - begun})


if __name__ == "__main__":
    main()
