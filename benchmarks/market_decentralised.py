"""What the decentralised mechanism earns against known supply curves, and what the servers earn.

    python benchmarks/market_decentralised.py [--markets 20] [--others 10] [--seeds 5] [--minutes 9] [--report]

Markets are numbered from 2000: none was used in development or training. Every learning seed trains its own value
network; all networks then clear the same markets, of the default family and of families not trained on. The rival is
`KnownSupply`: the best posted prices for a platform that knows every supply curve. Intervals are of the mean over
markets, each averaged over the learning seeds.

Every cell (family and noise, market, mechanism) is kept under `runs/benchmarks/market_decentralised`; the benchmark
continues where it stopped, and stops after `--minutes`. Only markets that all mechanisms have cleared are reported.
"""

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from harness import finish, interval, kept, options, table

from sliceoff.market import Family, KnownSupply, MarketScenario, Mechanism, Optimum, violations
from sliceoff.market.decentralised import Decentralised, Noise

CELLS = Path(__file__).parents[1] / "runs" / "benchmarks" / "market_decentralised"
FIRST = 2000
RIVALS: dict[str, Mechanism] = {"known": KnownSupply(), "contracts": Optimum()}


@dataclass(frozen=True)
class Setting:
    """A family of markets, and the epsilon of the noise on masked sums."""

    name: str
    family: Family
    epsilon: float | None = None

    def market(self, number: int) -> MarketScenario:
        """A market that was not used for training."""
        return self.family.draw(FIRST + number)

    def cell(self, number: int, who: str) -> Path:
        """The file of the outcome of `who`, a rival or a seed, on a market."""
        return CELLS / self.name.replace(" ", "_") / f"{number}-{who}.json"


SETTINGS = [
    Setting("default", Family()),
    Setting("5 servers, 20 applications", Family(n_servers=5, n_applications=20)),
    Setting("dear servers", Family(linear_cost=(0.3, 0.8), quadratic_cost=(0.02, 0.08))),
    Setting("small servers, tight deadlines", Family(capacity=(4, 10), deadline_s=(0.06, 0.2))),
    Setting("default, epsilon 100", Family(), 100.0),
    Setting("default, epsilon 10", Family(), 10.0),
]


def learnt(seed: int) -> str:
    """A value network trained on exact sums of past markets of the default family."""
    path = CELLS / f"value-{seed}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        Decentralised(seed=seed).save(str(path))
        path.with_suffix(".json").write_text(json.dumps({"seconds": time.perf_counter() - begun}))
    return str(path)


def measured(setting: Setting, number: int, who: str) -> dict[str, float]:
    """Run a cell; returns what is kept of it."""
    noise = None if setting.epsilon is None else Noise(setting.epsilon)
    mechanism = RIVALS.get(who) or Decentralised(checkpoint=learnt(int(who)), noise=noise, seed=int(who))
    if isinstance(mechanism, Decentralised):
        _ = mechanism.value  # loaded before the clock starts
    begun = time.perf_counter()
    outcome = mechanism.clear(setting.market(number))
    return {
        "revenue": outcome.revenue,
        "servers": float(outcome.profits.sum()),
        "violation": max(violations(outcome).values()),
        "seconds": time.perf_counter() - begun,
    }


def row(setting: Setting, markets: int, seeds: int) -> dict[str, float | str] | None:
    """Ours against the rivals on the markets that all have cleared; None if these are fewer than two."""
    who = [*RIVALS, *map(str, range(seeds))]
    paths = [[setting.cell(number, one) for one in who] for number in range(markets)]
    found = [
        [json.loads(path.read_text()) for path in cells] for cells in paths if all(path.is_file() for path in cells)
    ]
    if len(found) < 2:
        return None

    def values(key: str) -> np.ndarray:
        return np.array([[cell[key] for cell in cells] for cells in found])

    revenue, servers = values("revenue"), values("servers")
    share = 100 * revenue[:, 2:] / revenue[:, :1]
    mean, half = interval(list(share.mean(1)))
    kept, kept_half = interval(list(servers[:, 2:].mean(1) - servers[:, 1]))
    return {
        "markets": setting.name,
        "count": len(found),
        "percent_of_known_supply": mean,
        "half_interval": half,
        "worst_percent": float(share.min()),
        "spread_over_seeds": float(share.mean(0).std(ddof=1)) if seeds > 1 else 0.0,
        "servers_earn": float(servers[:, 2:].mean()),
        "known_supply": float(servers[:, 0].mean()),
        "contracts": float(servers[:, 1].mean()),
        "more_than_contracts": kept,
        "more_half_interval": kept_half,
        "better_off_percent": 100 * float((servers[:, 2:].mean(1) > servers[:, 1]).mean()),
        "worst_violation": float(values("violation")[:, 2:].max()),
        "seconds": float(values("seconds")[:, 2:].mean()),
    }


def main() -> None:
    """Run the benchmark: the default family, other families, and noise."""
    parser = options(__doc__)
    parser.add_argument("--markets", type=int, default=20, help="of the default family")
    parser.add_argument("--others", type=int, default=10, help="markets of every other family, and with noise")
    parser.add_argument("--seeds", type=int, default=5, help="value networks")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further cell after this long")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    counts = {setting: given.markets if setting.name == "default" else given.others for setting in SETTINGS}
    for setting, count in counts.items():
        for number in range(0 if given.report else count):
            for who in (*RIVALS, *map(str, range(given.seeds))):
                if time.perf_counter() - begun < 60 * given.minutes:
                    kept(setting.cell(number, who), partial(measured, setting, number, who))
    rows = [found for setting, count in counts.items() if (found := row(setting, count, given.seeds)) is not None]
    if not rows:
        print("nothing yet; fewer than two markets were cleared by all")
    else:
        table(f"Of what posted prices earn with known supply curves, {given.seeds} value networks", rows)
    results = {
        f"{str(found['markets']).replace(', ', '_').replace(' ', '_')}_{key}": float(value)
        for found in rows
        for key, value in found.items()
        if key != "markets"
    }
    learning = [json.loads(path.read_text())["seconds"] for path in sorted(CELLS.glob("value-*.json"))]
    finish(results | {"learning_seconds": float(np.mean(learning))} if learning else results)


if __name__ == "__main__":
    main()
