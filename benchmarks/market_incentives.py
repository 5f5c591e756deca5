"""What a server gains by lying, per mechanism: `python benchmarks/market_incentives.py [optimum ...] [--scenarios 20]`.

In every market of the default family, every server in turn reports other costs or less capacity than it has
(`sliceoff.market.incentives`), while all others report the truth. `optimum` pays as `centralised` does, without its
search, and represents it on all markets; `centralised` and `decentralised` clear only `--few` markets, because each
takes seconds: `centralised` with 8 requests, `decentralised` with a value network trained once before.
"""

from collections import Counter
from collections.abc import Callable
from math import inf

import numpy as np
import torch
from harness import finish, interval, options, shown, table

from sliceoff.market import Auction, Centralised, Family, Greedy, KnownSupply, MaxTransaction, Mechanism, Optimum
from sliceoff.market.decentralised import Decentralised
from sliceoff.market.incentives import Report, participation_margin, temptations

MECHANISMS: dict[str, Callable[[], Mechanism]] = {
    "optimum": lambda: Optimum(tolerance=1e-4),
    "known_supply": lambda: KnownSupply(tolerance=1e-4),
    "auction": Auction,
    "max_transaction": MaxTransaction,
    "greedy": Greedy,
    "centralised": lambda: Centralised(evaluations=8),
    "decentralised": lambda: Decentralised(past_markets=60),
}
SLOW = ("centralised", "decentralised")


def measured(name: str, markets: int) -> dict[str, object]:
    """One row of the table: means over all servers of all markets, or per market."""
    family, mechanism = Family(), MECHANISMS[name]()
    gains, losses, tempted, margin = [], [], [], inf
    kinds: Counter[str] = Counter()
    for number in range(markets):
        honest, found = temptations(mechanism, family.draw(number))
        # A server that can only lose reports the truth; a gain within solvers' tolerance counts as none.
        worth = [each.gain > 0.01 * max(each.truthful, honest.scenario.least_profit) for each in found]
        gains.append(float(np.mean([max(each.gain, 0.0) for each in found])))
        losses.append(float(np.mean([each.loss * gained for each, gained in zip(found, worth, strict=True)])))
        tempted.append(float(np.mean(worth)))
        kinds.update(kind(each.lie) for each, gained in zip(found, worth, strict=True) if gained)
        margin = min(margin, participation_margin(honest))
    return {
        "mechanism": name,
        "markets": markets,
        "gain [money/s]": gains,
        "servers that gain > 1 %": float(np.mean(tempted)),
        "best lies": ", ".join(f"{lie} {count}x" for lie, count in kinds.most_common(3)),
        "platform's loss [money/s]": losses,
        "least profit over U_min [money/s]": margin,
    }


def kind(lie: Report) -> str:
    """A short description of a false report."""
    return f"capacity x{lie.capacity}" if lie.capacity < 1 else f"cost x{lie.linear}"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("mechanisms", nargs="*", choices=MECHANISMS, metavar="mechanism", help=", ".join(MECHANISMS))
    parser.add_argument("--scenarios", type=int, default=20, help="markets")
    parser.add_argument("--few", type=int, default=2, help=f"markets for {' and '.join(SLOW)}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.mechanisms or MECHANISMS
    rows = [measured(name, given.few if name in SLOW else given.scenarios) for name in names]
    table(
        "What one lying server gains, and what the platform loses by it",
        [{key: shown(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows],
    )
    results: dict[str, float] = {}
    for row in rows:
        for key, value in row.items():
            name = f"{row['mechanism']}/{key}"
            if isinstance(value, list):
                results[name], results[f"{name}/half_interval"] = interval(value)
            elif isinstance(value, float):
                results[name] = value
    finish(results)


if __name__ == "__main__":
    main()
