"""Slicing against the exact optimum: rent, coverage and speed. `python benchmarks/slicing.py [--instances N] [--quick]`.

Random coupled instances: 20 regions with their own price levels and forecasts, every instance with one of four couplings
(an aggregate demand row, the inventories, the inventories with the best kappa per region, a price for changes). Limits
lie between what the cheapest covering offers take and the least that covers at all, so that the row binds and can hold.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from harness import finish, table

from sliceoff.region import Scenario
from sliceoff.slicing import Exact, FixedKappa, LpRounding, Offers, Rental, SlicingRequest, TaskStatistics
from sliceoff.slicing.choice import take
from sliceoff.slicing.problem import MHZ
from sliceoff.slicing.rounding import draw

REGIONS, OPTIONS = 20, 8
KAPPA, Z = 0.5, 2.0
COUPLINGS = ("aggregate demand", "inventories", "inventories, joint kappa", "price of changes")
SCENARIO = Scenario()


def market(shape: str, random: np.random.Generator, regions: int, options: int = OPTIONS) -> Offers:
    """Offers of one price shape, at a price level of every region's own."""
    common = {
        "bandwidth_options_mhz": np.linspace(5, 80, options).tolist(),
        "vm_options": np.linspace(2, 32, options).round().astype(int).tolist(),
        "n_regions": regions,
        "long_slot_s": 3600.0,
    }
    if shape == "rising":
        prices = {"bandwidth_price_scale_mhz": 160, "vm_price_scale": 64}
        offers = Offers.rising(bandwidth_price_per_mhz=1.5, vm_price=3.0, **prices, **common)
    else:
        prices = {"bandwidth_price_exponent": 0.85, "vm_price_exponent": 0.85}
        offers = Offers.discount(bandwidth_price_per_mhz=2.2, vm_price=5.7, **prices, **common)
    level = torch.from_numpy(random.lognormal(0, 0.3, (2, regions, 1)))
    return replace(offers, bandwidth_price=offers.bandwidth_price * level[0], vm_price=offers.vm_price * level[1])


def request(users: np.ndarray, previous: Rental | None = None) -> SlicingRequest:
    """A request for `users` per region."""
    users = torch.from_numpy(users).float()
    return SlicingRequest(users, users, users, TaskStatistics.prior(SCENARIO, len(users)), previous)


def coupled(
    coupling: str, shape: str, random: np.random.Generator
) -> tuple[Offers, SlicingRequest, dict[str, float | str | None]]:
    """One random instance, whose row binds and can hold: offers, request, and the programs' options."""
    offers, users = market(shape, random, REGIONS), random.uniform(4, 45, REGIONS)
    options: dict[str, float | str | None] = {"kappa": KAPPA, "z": Z}
    asked = request(users)
    if coupling == "aggregate demand":
        return offers, asked, options | {"aggregate_margin": float(random.uniform(0.25, 0.6))}
    if coupling == "price of changes":
        offers = replace(offers, change_price=float(random.uniform(5, 30)))
        before = Exact(offers, SCENARIO, **options).rent(request(users * random.uniform(0.7, 1.4, REGIONS)))
        asked = request(users, previous=before)
    if coupling == "inventories, joint kappa":
        options |= {"kappa": "joint"}
    free = Exact(offers, SCENARIO, **options).rent(asked)
    # With free choice of everything else, the least bandwidth (and then the fewest VMs) that covers.
    tight = {}
    for name, size, other in (("bandwidth_inventory_hz", "bandwidth", "vm"), ("vm_inventory", "vm", "bandwidth")):
        scarce = replace(
            offers,
            change_price=0.0,
            **{f"{size}_price": {"bandwidth": offers.bandwidth_hz / MHZ, "vm": offers.n_vms.double()}[size]},
            **{f"{other}_price": 1e-6 * getattr(offers, f"{other}_price")},
        )
        least = Exact(scarce, SCENARIO, **options).rent(replace(asked, previous=None))
        rented = (lambda r: r.bandwidth_hz) if size == "bandwidth" else (lambda r: r.n_vms.double())
        low, high = float(rented(least).sum()), float(rented(free).sum())
        tight[name] = low + float(random.uniform(0.2, 0.8)) * (high - low)
    row = str(random.choice(list(tight)))
    return replace(offers, **{row: tight[row] * (1 + 1e-9)}), asked, options


def plain_draws(offers: Offers, asked: SlicingRequest, random: np.random.Generator) -> tuple[float, float]:
    """One draw of (18) without repair: the share of regions short of bandwidth, and how much of it is missing."""
    rent = FixedKappa(SCENARIO, KAPPA, Z).problem(offers, asked.forecast, asked)
    from sliceoff.slicing.program import CoverProgram
    from sliceoff.slicing.solver import Solver

    _, shares = CoverProgram(Solver("CBC", 10.0, integer=False)).solve(rent)
    got, demand = take(rent.sizes[0], draw(shares[0], 200, random)), rent.demands[0]
    return float((got < demand - 1e-6).mean()), float(
        (np.maximum(demand - got, 0) / demand)[got < demand - 1e-6].mean()
    )


def quality(instances: int, seed: int) -> dict[str, float]:
    """Rent of `lp_rounding` over `exact`."""
    results, rows = {}, []
    for shape in ("rising", "discount"):
        every = []
        for coupling in COUPLINGS:
            random = np.random.default_rng((seed, COUPLINGS.index(coupling)))
            over, lp, uncovered, one = [], [], 0, []
            for number in range(instances // len(COUPLINGS)):
                offers, asked, options = coupled(coupling, shape, random)
                exact = Exact(offers, SCENARIO, **options, gap=1e-7).rent(asked)
                rounded = LpRounding(offers, SCENARIO, **options, seed=number).rent(asked)
                best = float(exact.rent.sum())
                uncovered += int((rounded.uncovered & ~exact.uncovered).sum())
                over.append(float(rounded.rent.sum()) / best - 1)
                lp.append(1 - rounded.lp_value / best)
                one.append(
                    float(LpRounding(offers, SCENARIO, **options, n_draws=1, seed=number).rent(asked).rent.sum()) / best
                    - 1
                )
            every += over
            rows.append(
                {
                    "prices": shape,
                    "coupling": coupling,
                    "instances": len(over),
                    "rent over exact, mean %": 100 * float(np.mean(over)),
                    "median %": 100 * float(np.median(over)),
                    "95th %": 100 * float(np.quantile(over, 0.95)),
                    "worst %": 100 * float(np.max(over)),
                    "S = 1, mean %": 100 * float(np.mean(one)),
                    "LP under exact, mean %": 100 * float(np.mean(lp)),
                    "regions uncovered": uncovered,
                }
            )
            results |= {f"{shape}/{coupling}/rent_over_exact_percent": 100 * float(np.mean(over))}
            results |= {f"{shape}/{coupling}/lp_under_exact_percent": 100 * float(np.mean(lp))}
        results |= {f"{shape}/rent_over_exact_percent": 100 * float(np.mean(every))}
    table(f"lp_rounding (64 draws, repaired) against exact, {REGIONS} regions x ({OPTIONS} + {OPTIONS}) offers", rows)
    return results


def draws(seed: int) -> dict[str, float]:
    """What a plain draw leaves short."""
    results, rows = {}, []
    for shape in ("rising", "discount"):
        random = np.random.default_rng(seed)
        seen = [
            plain_draws(market(shape, random, REGIONS), request(random.uniform(4, 45, REGIONS)), random)
            for _ in range(50)
        ]
        short, missing = np.mean(seen, axis=0)
        rows.append({"prices": shape, "regions short %": 100 * short, "of which missing, mean %": 100 * missing})
        results |= {
            f"{shape}/single_draw_short_percent": 100 * short,
            f"{shape}/single_draw_missing_percent": 100 * missing,
        }
    table("A plain draw of (18), bandwidth, no repair", rows)
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=1000, help="per price shape")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    results = {"seed": given.seed, "instances": given.instances}
    start = time.perf_counter()
    results |= draws(given.seed)
    results |= quality(given.instances, given.seed)
    finish(results | {"seconds": time.perf_counter() - start})


if __name__ == "__main__":
    main()
