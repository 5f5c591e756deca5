"""Slicing against the exact optimum: `python benchmarks/slicing.py [draws quality profit risk speed memory ...]`.

Random coupled instances: 20 regions with their own price levels and forecasts, each instance with one of four couplings
(an aggregate demand row; an inventory with the best kappa per region; an inventory, or the budget, with a price for
changes). Limits are between the use of the best offers without the row and the least use that covers the demand, so
that every row binds and can hold. With kappa fixed and no price for changes there are no such limits: the cheapest
offer that covers is also the smallest.
"""

import time
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from harness import finish, options, resident_mib, table
from traces import TRACES

from sliceoff.region import Greedy, Scenario
from sliceoff.run import Parts, configure
from sliceoff.run_directory import RunDirectory
from sliceoff.slicing import (
    Exact,
    FixedKappa,
    ForecastErrors,
    LpRounding,
    Offers,
    Profit,
    Rental,
    Slicer,
    SlicingRequest,
    TaskStatistics,
    adapted_miss,
    measure_revenue,
)
from sliceoff.slicing.choice import cheapest, take
from sliceoff.slicing.offers import pick
from sliceoff.slicing.problem import MHZ
from sliceoff.slicing.program import CoverProgram
from sliceoff.slicing.rental import offer_costs
from sliceoff.slicing.requirement import requirement
from sliceoff.slicing.rounding import best_of, draw, round_up
from sliceoff.solver import Solver

REGIONS, OPTIONS = 20, 8
KAPPA, Z = 0.5, 2.0
COUPLINGS = ("aggregate demand", "inventory, joint kappa", "inventory, price of changes", "budget, price of changes")
SCENARIO = Scenario(price=1e-3)  # as configs/region/default.yaml


def market(shape: str, random: np.random.Generator, regions: int, options: int = OPTIONS) -> Offers:
    """Offers with one price shape, and a price level for each region."""
    common: dict[str, Any] = {
        "bandwidth_options_mhz": np.linspace(5, 80, options).tolist(),
        "vm_options": np.linspace(2, 32, options).round().astype(int).tolist(),
        "n_regions": regions,
        "long_slot_s": 3600.0,
    }
    if shape == "rising":
        prices: dict[str, Any] = {"bandwidth_price_scale_mhz": 160, "vm_price_scale": 64}
        offers = Offers.rising(bandwidth_price_per_mhz=1.5, vm_price=3.0, **prices, **common)
    else:
        prices = {"bandwidth_price_exponent": 0.85, "vm_price_exponent": 0.85}
        offers = Offers.discount(bandwidth_price_per_mhz=2.2, vm_price=5.7, **prices, **common)
    level = torch.from_numpy(random.lognormal(0, 0.3, (2, regions, 1)))
    return replace(offers, bandwidth_price=offers.bandwidth_price * level[0], vm_price=offers.vm_price * level[1])


def request(users: np.ndarray, previous: Rental | None = None) -> SlicingRequest:
    """A slicing request that forecasts `users` per region."""
    known = torch.from_numpy(users).float()
    return SlicingRequest(known, known, known, TaskStatistics.prior(SCENARIO, len(users)), previous)


def coupled(coupling: str, shape: str, random: np.random.Generator) -> tuple[Offers, SlicingRequest, dict[str, Any]]:
    """A random instance whose row binds and can hold: offers, request, and the programs' options."""
    offers, users = market(shape, random, REGIONS), random.uniform(4, 45, REGIONS)
    options: dict[str, Any] = {"kappa": KAPPA, "z": Z}
    asked = request(users)
    if coupling == "aggregate demand":
        return offers, asked, options | {"aggregate_margin": float(random.uniform(0.25, 0.6))}
    if coupling == "inventory, joint kappa":
        options |= {"kappa": "joint"}
    else:
        offers = replace(offers, change_price=float(random.uniform(5, 30)))
        before = Exact(offers, SCENARIO, **options).rent(request(users * random.uniform(0.7, 1.4, REGIONS)))
        asked = request(users, previous=before)
    free = Exact(offers, SCENARIO, **options).rent(asked)
    rows = {"budget"} if coupling.startswith("budget") else {"bandwidth_inventory_hz", "vm_inventory"}
    binding = {}
    for row in sorted(rows):
        low, high = taken(offers, least_of(row, offers, asked, options), row), taken(offers, free, row)
        if low < high:
            binding[row] = (low + float(random.uniform(0.2, 0.8)) * (high - low)) * (1 + 1e-9)
    if not binding:
        return coupled(coupling, shape, random)
    row = str(random.choice(sorted(binding)))
    limit: dict[str, Any] = {row: binding[row]}
    return replace(offers, **limit), asked, options


def taken(offers: Offers, rental: Rental, row: str) -> float:
    """A rental's total use of a coupling row."""
    listed = pick(offers.bandwidth_price, rental.bandwidth_index) + pick(offers.vm_price, rental.vm_index)
    return float(
        {"budget": listed, "bandwidth_inventory_hz": rental.bandwidth_hz, "vm_inventory": rental.n_vms}[row].sum()
    )


def least_of(row: str, offers: Offers, asked: SlicingRequest, options: dict) -> Rental:
    """The rental that covers with the least use of a row: the program with uses as prices, all else nearly free."""
    bandwidth, vms = {
        "budget": (offers.bandwidth_price, offers.vm_price),
        "bandwidth_inventory_hz": (offers.bandwidth_hz / MHZ, 1e-6 * offers.vm_price),
        "vm_inventory": (1e-6 * offers.bandwidth_price, offers.n_vms.double()),
    }[row]
    scarce = replace(offers, change_price=0.0, bandwidth_price=bandwidth, vm_price=vms)
    return Exact(scarce, SCENARIO, **options).rent(replace(asked, previous=None))


def plain_draws(offers: Offers, asked: SlicingRequest, random: np.random.Generator) -> tuple[float, float]:
    """One draw of (18) without repair: the share of regions short of bandwidth, and their shortfall."""
    rent = FixedKappa(SCENARIO, KAPPA, Z).problem(offers, asked)
    _, shares = CoverProgram(Solver("CBC", 10.0, integer=False)).solve(rent)
    assert shares is not None
    got, demand = take(rent.sizes[0], draw(shares[0], 200, random)), rent.demands[0]
    return float((got < demand - 1e-6).mean()), float(
        (np.maximum(demand - got, 0) / demand)[got < demand - 1e-6].mean()
    )


def without_prices(offers: Offers, asked: SlicingRequest, options: dict, seed: int) -> tuple[float, int]:
    """The best of 64 draws with short regions rounded up to the cheapest cover: rent, and regions uncovered."""
    coverage = requirement(SCENARIO, **options)
    rent = coverage.problem(offers, asked)
    problem = rent.choice_problem()
    _, shares = coverage.relaxation(Solver("CBC", 10.0, integer=False))(rent)
    assert shares is not None
    random = np.random.default_rng(seed)
    draws = tuple(draw(share, 64, random) for share in shares)
    repaired = (round_up(*part) for part in zip(draws, rent.falls_short(), cheapest(problem), strict=True))
    choice, _ = best_of(problem, tuple(np.concatenate(pair) for pair in zip(draws, repaired, strict=True)))
    assert choice is not None
    prices = (
        pick(price, index)
        for price, index in zip(offer_costs(offers, asked.previous), rent.offers_of(choice), strict=True)
    )
    return float(sum(price.sum() for price in prices)), int(rent.uncovered(choice).sum())


def quality(instances: int, seed: int) -> dict[str, float]:
    """Compare the rent of `lp_rounding` with that of `exact`."""
    results, rows = dict[str, float](), []
    for shape in ("rising", "discount"):
        every = []
        for coupling in COUPLINGS:
            random = np.random.default_rng((seed, COUPLINGS.index(coupling)))
            over, lp, uncovered, plain, plain_uncovered = [], [], 0, [], 0
            for number in range(instances // len(COUPLINGS)):
                offers, asked, options = coupled(coupling, shape, random)
                exact = Exact(offers, SCENARIO, **options, gap=1e-7).rent(asked)
                rounded = LpRounding(offers, SCENARIO, **options, seed=number).rent(asked)
                best = float(exact.rent.sum())
                uncovered += int((rounded.uncovered & ~exact.uncovered).sum())
                over.append(float(rounded.rent.sum()) / best - 1)
                assert rounded.lp_value is not None
                lp.append(1 - rounded.lp_value / best)
                rent, missed = without_prices(offers, asked, options, number)
                plain.append(rent / best - 1)
                plain_uncovered += missed
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
                    "LP under exact, mean %": 100 * float(np.mean(lp)),
                    "regions uncovered": uncovered,
                    "draws alone, mean %": 100 * float(np.mean(plain)),
                    "uncovered": plain_uncovered,
                }
            )
            results |= {f"{shape}/{coupling}/rent_over_exact_percent": 100 * float(np.mean(over))}
            results |= {f"{shape}/{coupling}/regions_uncovered": uncovered}
            results |= {f"{shape}/{coupling}/lp_under_exact_percent": 100 * float(np.mean(lp))}
        results |= {f"{shape}/rent_over_exact_percent": 100 * float(np.mean(every))}
    print("'Draws alone': short regions are rounded up to the cheapest offers that cover, without shadow prices.")
    table(f"lp_rounding (64 draws, repaired) against exact, {REGIONS} regions x ({OPTIONS} + {OPTIONS}) offers", rows)
    return results


def draws(seed: int) -> dict[str, float]:
    """Measure the shortfall of a plain draw."""
    results, rows = dict[str, float](), []
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


def risk() -> dict[str, float]:
    """Measure the coverage of the users' upper bound on the held-out end of real traces, against the nominal one.

    The errors of the validation part are known at the start of the held-out end; ridge is fitted on the training part.
    """
    results, rows = dict[str, float](), []
    for trace in ("PobleSec", "week_users"):
        parts = Parts(configure(*TRACES[trace], "predictor=linear", "rivals=none"))
        windows, users = parts.datamodule, torch.from_numpy(parts.trace.values)
        first, start = len(windows.train_values), windows.heldout_start
        with TemporaryDirectory() as folder:
            forecaster = parts.fit_predictor(RunDirectory(folder, config=""))
        ridge = users.clone()
        for period in range(first, len(users)):
            ridge[period] = forecaster.forecast(windows.history_until(period))[0, 0, :, 0]
        forecasts = {"ridge": ridge, "repeat last": users.roll(1, 0), "repeat the day before": users.roll(144, 0)}
        for name, forecast in forecasts.items():
            relative = (users - forecast) / (forecast + 1)
            for miss in (0.05, 0.1, 0.2, 0.3, 0.5):
                fixed = torch.quantile(relative[first:start], 1 - miss, dim=0)
                observed = {"fixed": float((relative[start:] <= fixed).double().mean())}
                for label, rate in (("recent", 0.0), ("calibrated", 0.05)):
                    errors, covered = ForecastErrors.none_yet(users.shape[1]), []
                    aim = torch.full((users.shape[1],), miss, dtype=torch.float64)
                    for now, expected in zip(users[first:], forecast[first:], strict=True):
                        bound = errors.upper(expected, aim)
                        errors = errors.forecasting(expected).observed(now)
                        aim = adapted_miss(aim, now > bound, miss, rate)
                        covered.append((now <= bound).double())
                    observed[label] = float(torch.stack(covered)[start - first :].mean())
                rows.append(
                    {
                        "trace": trace,
                        "forecast": name,
                        "asked %": 100 * (1 - miss),
                        "quantile of the validation errors %": 100 * observed["fixed"],
                        "of recent errors %": 100 * observed["recent"],
                        "calibrated online %": 100 * observed["calibrated"],
                    }
                )
                off = 100 * abs(observed["calibrated"] - (1 - miss))
                results[f"risk/{trace}/{name}/{1 - miss:g}/off_points"] = off
    table("Coverage on the held-out fifth of real traffic (aim: within 2 points)", rows)
    return results | {"risk/worst_off_points": max(results.values())}


def drift(users: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The users of the next period, which differ at random by about 10 %."""
    return np.clip(users * np.exp(0.1 * random.normal(size=len(users))), 2, 48)


def speed(seed: int) -> dict[str, float]:
    """Measure the seconds of a period after the first, with 10 + 10 offers and users that drift by 10 % a period."""
    results, rows = dict[str, float](), []
    for regions in (100, 1000, 10_000):
        for shape in ("rising", "discount"):
            for coupling in ("none", "inventory", "aggregate demand"):
                random = np.random.default_rng(seed)
                offers, users = market(shape, random, regions, options=10), random.uniform(5, 40, regions)
                if coupling == "inventory":
                    offers = replace(offers, bandwidth_inventory_hz=26e6 * regions)
                margin: dict[str, Any] = {"aggregate_margin": 0.4} if coupling == "aggregate demand" else {}
                exact = Exact(offers, SCENARIO, kappa=KAPPA, z=Z, **margin)
                rounding = LpRounding(offers, SCENARIO, kappa=KAPPA, z=Z, **margin)
                program = CoverProgram(Solver("CBC", 60.0, integer=False))
                taken: dict[str, list[float]] = {"exact": [], "lp": [], "lp_rounding": []}
                previous = None
                for _ in range(6):
                    asked = request(users, previous)
                    start = time.perf_counter()
                    previous = exact.rent(asked)
                    taken["exact"].append(time.perf_counter() - start)
                    if regions <= 1000:
                        start = time.perf_counter()
                        rounding.rent(asked)
                        taken["lp_rounding"].append(time.perf_counter() - start)
                        rent = FixedKappa(SCENARIO, KAPPA, Z, **margin).problem(offers, asked)
                        start = time.perf_counter()
                        program.solve(rent)
                        taken["lp"].append(time.perf_counter() - start)
                    users = drift(users, random)
                row = {name: float(np.max(seconds[1:])) for name, seconds in taken.items() if seconds}
                key = f"{shape}/{coupling}/{regions} regions"
                results |= {f"{key}/{name}_seconds": value for name, value in row.items()}
                names = {"exact": "exact, s", "lp": "LP re-solve, s", "lp_rounding": "lp_rounding in all, s"}
                rows.append(
                    dict[str, object](regions=regions, prices=shape, coupling=coupling)
                    | {name: row.get(key, "") for key, name in names.items()}
                )
    table(
        "A period after the first, the slowest of 5 (aims: LP 0.05 s, exact 0.2 s at 1000; exact 2 s at 10 000)", rows
    )
    return results


def memory(seed: int, periods: int = 2000, regions: int = 20) -> dict[str, float]:
    """Measure the memory growth over many periods, per solver, in a loop that solves in every period."""
    results, rows = dict[str, float](), []
    for solver in ("CBC", "HIGHS"):
        random = np.random.default_rng(seed)
        offers, users = market("rising", random, regions), random.uniform(5, 40, regions)
        slicers: dict[str, Slicer] = {
            "exact": Exact(offers, SCENARIO, kappa=KAPPA, z=Z, aggregate_margin=0.4, solver=solver, gap=1e-7),
            "lp_rounding": LpRounding(offers, SCENARIO, kappa=KAPPA, z=Z, aggregate_margin=0.4, solver=solver),
        }
        for name, slicer in slicers.items():
            for period in range(periods):
                if period == 100:
                    before, start = resident_mib(), time.perf_counter()
                slicer.rent(request(users))
                users = drift(users, random)
            grown, took = resident_mib() - before, time.perf_counter() - start
            rows.append(
                {
                    "slicer": name,
                    "solver": solver,
                    "periods": periods,
                    "growth, MiB": grown,
                    "a period, ms": 1e3 * took / periods,
                }
            )
            results[f"{name}/{solver}/growth_mib"] = grown
    table(f"Memory from period 100 to {periods}, {regions} regions", rows)
    return results


def profits(seed: int) -> dict[str, float]:
    """Compare rent-minimal and profit slices with the enumerated optimum, for certain forecasts.

    The optimum is chosen on one set of tasks; all are evaluated on another, in the region with `Greedy`.
    """
    users, results, rows = [10.0, 20.0, 30.0, 45.0], {}, []
    for shape in ("rising", "discount"):
        offers = market(shape, np.random.default_rng(seed), len(users))
        # All regions have the price level of the table.
        offers = replace(
            offers,
            bandwidth_price=offers.bandwidth_price.mean(0, keepdim=True).expand_as(offers.bandwidth_price),
            vm_price=offers.vm_price.mean(0, keepdim=True).expand_as(offers.vm_price),
        )
        sizes = (offers.bandwidth_hz[0].tolist(), offers.n_vms[0].tolist(), users)
        picked, judged = (
            measure_revenue(SCENARIO, Greedy(), *sizes, copies=16, slots=40, seed=seed + number)
            for number in (101, 102)
        )
        hour, rent = 3600 / SCENARIO.short_slot_s, offers.bandwidth_price[0][:, None] + offers.vm_price[0]
        earned = judged.revenue[1:, 1:, 1:] * hour - rent[:, :, None]
        best = (picked.revenue[1:, 1:, 1:] * hour - rent[:, :, None]).flatten(0, 1).argmax(0)
        optimum = earned.flatten(0, 1).gather(0, best[None])[0]
        slicers: dict[str, Slicer] = {
            "exact, kappa 0.5, z 2": Exact(offers, SCENARIO, kappa=KAPPA, z=Z),
            "exact, joint kappa, z 2": Exact(offers, SCENARIO, kappa="joint", z=Z),
            "exact, joint kappa, z 0": Exact(offers, SCENARIO, kappa="joint", z=0.0),
            "profit": Profit(offers, SCENARIO, seed=seed),
        }
        for name, slicer in slicers.items():
            rented = slicer.rent(request(np.array(users)))
            profit = earned[rented.bandwidth_index, rented.vm_index, torch.arange(len(users))]
            unearned = 100 * (1 - profit / optimum)
            rows.append(
                {"prices": shape, "slicer": name}
                | {f"{n:.0f} users, money/h": float(p) for n, p in zip(users, profit, strict=True)}
                | {"unearned %": " ".join(f"{share:.1f}" for share in unearned.tolist())}
                | {"of the optimum %": float(100 * profit.sum() / optimum.sum())}
            )
            results[f"{shape}/{name}/of_optimum_percent"] = float(100 * profit.sum() / optimum.sum())
        rows.append(
            {"prices": shape, "slicer": "enumerated optimum"}
            | {f"{n:.0f} users, money/h": float(p) for n, p in zip(users, optimum, strict=True)}
            | {"unearned %": "", "of the optimum %": 100.0}
        )
    table("Profit per region and hour, against the best of all pairs of offers", rows)
    return results


def main() -> None:
    parts = {
        "draws": lambda given: draws(given.seed),
        "quality": lambda given: quality(given.instances, given.seed),
        "profit": lambda given: profits(given.seed),
        "risk": lambda given: risk(),
        "speed": lambda given: speed(given.seed),
        "memory": lambda given: memory(given.seed),
    }
    parser = options(__doc__)
    parser.add_argument("parts", nargs="*", choices=parts, metavar="part", help=", ".join(parts))
    parser.add_argument("--instances", type=int, default=1000, help="per price shape, of `quality`")
    parser.add_argument("--seed", type=int, default=0, help="of all instances")
    given = parser.parse_args()
    start = time.perf_counter()
    results: dict[str, float] = {"seed": given.seed, "instances": given.instances}
    for part in given.parts or parts:
        results |= parts[part](given)
    finish(results | {"seconds": time.perf_counter() - start})


if __name__ == "__main__":
    main()
