"""What the decentralised mechanism earns, beside known supply curves, and what it leaves to the servers.

    python benchmarks/market_decentralised.py [--scenarios 30] [--seeds 5] [--epsilons 10 100] [--small]

Markets are numbered from 2000: none was looked at before, nor learnt from. Every learning seed trains a value network
of its own; the networks then clear the same markets, of the default family and of families never trained on. The rival
is `KnownSupply`: the best posted prices for a platform that knows every supply curve. Intervals are of the mean over
markets, each averaged over the learning seeds.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from harness import finish, table
from scipy import stats

from sliceoff.market import Family, KnownSupply, MarketScenario, Optimum, Outcome, violations
from sliceoff.market.decentralised import Decentralised, Noise

FIRST = 2000


def compare(
    title: str, markets: Sequence[MarketScenario], mechanisms: Sequence[Decentralised]
) -> dict[str, float | str]:
    """Ours beside the rival on the same markets."""
    begun = time.perf_counter()
    ours = [[mechanism.clear(market) for mechanism in mechanisms] for market in markets]
    seconds = (time.perf_counter() - begun) / (len(markets) * len(mechanisms))
    known = [KnownSupply().clear(market) for market in markets]
    contracts = [Optimum().clear(market) for market in markets]

    def earned(outcome: Outcome) -> float:
        return float(outcome.profits.sum())

    share = np.array([np.mean([one.revenue for one in row]) / k.revenue for row, k in zip(ours, known, strict=True)])
    each = np.array([[one.revenue / k.revenue for one in row] for row, k in zip(ours, known, strict=True)])
    half = float(stats.sem(share) * stats.t.ppf(0.975, len(share) - 1))
    left = [np.mean([earned(one) for one in row]) for row in ours]
    above = [a > earned(b) for a, b in zip(left, contracts, strict=True)]
    return {
        "markets": title,
        "percent_of_known_supply": 100 * float(share.mean()),
        "half_interval": 100 * half,
        "worst_percent": 100 * float(each.min()),
        "spread_over_seeds": 100 * float(each.mean(axis=0).std(ddof=1)) if len(mechanisms) > 1 else 0.0,
        "servers_earn": float(np.mean(left)),
        "servers_earn_known_supply": float(np.mean([earned(one) for one in known])),
        "servers_earn_contracts": float(np.mean([earned(one) for one in contracts])),
        "servers_better_off_percent": 100 * float(np.mean(above)),
        "worst_violation": max(max(violations(one).values()) for row in ours for one in row),
        "seconds": seconds,
    }


def main() -> None:
    """Default family, other families, noise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5, help="value networks")
    parser.add_argument("--epsilons", type=float, nargs="*", default=[10.0, 100.0])
    parser.add_argument("--small", action="store_true", help="little learning: a look at whether all runs")
    given = parser.parse_args()
    small = {"past_markets": 4, "past_bargains": 2, "bargains": 2, "supply_steps": 60} if given.small else {}
    learnt = [Decentralised(seed=seed, **small) for seed in range(given.seeds)]
    begun = time.perf_counter()
    for mechanism in learnt:
        _ = mechanism.value
    learning = (time.perf_counter() - begun) / given.seeds
    families = {
        "default": Family(),
        "5 servers, 20 applications": Family(n_servers=5, n_applications=20),
        "dear servers": Family(linear_cost=(0.3, 0.8), quadratic_cost=(0.02, 0.08)),
        "small servers, tight deadlines": Family(capacity=(4, 10), deadline_s=(0.06, 0.2)),
    }
    drawn = {name: [family.draw(FIRST + n) for n in range(given.scenarios)] for name, family in families.items()}
    rows = [compare(name, markets, learnt) for name, markets in drawn.items()]
    for epsilon in given.epsilons:
        # A value network is learnt from exact sums of past markets; only the market at hand is noisy.
        noisy = [Decentralised(seed=seed, noise=Noise(epsilon), **small) for seed in range(given.seeds)]
        for mechanism, exact in zip(noisy, learnt, strict=True):
            mechanism.__dict__["value"] = exact.value
        rows.append(compare(f"default, epsilon {epsilon:g}", drawn["default"], noisy))
    short = {"percent_of_known_supply": "percent", "half_interval": "+-", "worst_percent": "worst"}
    short |= {name: name.replace("servers_", "").replace("worst_", "") for name in rows[0] if name not in short}
    view = [{short[name]: value for name, value in row.items()} for row in rows]
    table(
        f"{given.scenarios} markets, {given.seeds} value networks, each learnt in {learning:.0f} s: of known supply",
        view,
    )
    finish(
        {
            f"{str(row['markets']).replace(', ', '_').replace(' ', '_')}_{key}": float(value)
            for row in rows
            for key, value in row.items()
            if key != "markets"
        }
    )


if __name__ == "__main__":
    main()
