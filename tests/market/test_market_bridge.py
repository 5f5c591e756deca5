"""`job=market_bridge`: Algorithm 1's slices become servers, their users applications."""

from typing import Any

import numpy as np
import polars
import pytest

from sliceoff.errors import InputError
from sliceoff.market.bridge import RegionMarket
from sliceoff.region import Scenario
from sliceoff.run import configure, run
from sliceoff.slicing import Offers

PRICES: dict[str, Any] = {
    "bandwidth_options_mhz": [10],
    "vm_options": [2, 8, 16],
    "vm_price": 3.0,
    "n_regions": 2,
    "long_slot_s": 3600,
}
RISING = Offers.rising(bandwidth_price_per_mhz=1, bandwidth_price_scale_mhz=99, vm_price_scale=64, **PRICES)
DISCOUNT = Offers.discount(bandwidth_price_per_mhz=1, bandwidth_price_exponent=0.9, vm_price_exponent=0.9, **PRICES)
TABLE = polars.DataFrame(
    {
        "period": [40, 40, 41, 41],
        "users_forecast": polars.Series([20.0, 0.0, 10.0, 5.0], dtype=polars.Float32),
        "n_vms": [8, 2, 16, 8],
    }
)


def test_a_market_by_hand():
    market = RegionMarket(TABLE, Scenario(), RISING, away_delay_s=0.03, market_money=1000).draw(0)
    np.testing.assert_allclose(market.arrivals, [40, 0])  # 20 users every half second
    np.testing.assert_allclose(market.work, 0.45)  # 1.5 Mbit at 300 cycles/bit
    np.testing.assert_allclose(market.value * market.work, 2)  # 0.001 at the mean priority, in thousandths
    np.testing.assert_allclose(market.deadline_s, 0.5)
    np.testing.assert_allclose(market.capacity, [32, 8])
    np.testing.assert_allclose(market.delay_s, [[0, 0.03], [0.03, 0]])
    # Eight VMs cost 3 * 8 * (1 + 8 / 64) = 27 an hour.
    cost = market.linear_cost[0] * 32 + market.quadratic_cost[0] * 32**2
    assert cost == pytest.approx(27 / 3600 * 1000, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kappa": 1.0}, "kappa"), ({"market_money": 0.0}, "market_money"), ({"offers": DISCOUNT}, "offers=rising")],
)
def test_what_makes_no_market_is_named(options, message):
    with pytest.raises(InputError, match=message):
        RegionMarket(**{"table": TABLE, "scenario": Scenario(), "offers": RISING, **options})


def test_there_is_no_market_without_a_slice():
    with pytest.raises(InputError, match="only 2 long slots"):
        RegionMarket(TABLE, Scenario(), RISING).draw(2)


def configured(tmp_path, *overrides):
    few = ["data.days=14", "data.n_regions=2", "job.slots_per_period=2", "job.scenarios=2"]
    slow = [f"job.mechanisms.{name}=null" for name in ("centralised", "decentralised")]
    slow += ["job.simulated_tasks=0"]
    return configure("experiment=market_bridge", *few, *slow, f"run_dir={tmp_path / 'run'}", *overrides)


def test_one_config_slices_and_clears(tmp_path):
    result = run(configured(tmp_path, "job.first=1"))
    slices = polars.read_parquet(result.directory / "slices.parquet")
    assert slices["period"].n_unique() == 3
    assert sorted(set(result.table["scenario"])) == [1, 2]
    optimum = result.table.filter(polars.col("mechanism") == "optimum")
    assert (optimum["revenue"] > 0).all()
    assert (result.table["utilisation"] <= 1).all()
    assert (result.directory / "report.html").is_file()


@pytest.mark.parametrize(
    "override",
    [
        "job.slots_per_period=0",
        "job.scenarios=9999",
        "job.regions.kappa=2",
        "job.regions.market_money=1e300",
        "job.mechanisms.greedy.share=3",
        "job.regions=null",
        "job.regions._target_=sliceoff.market.Auction",
    ],
)
def test_wrong_options_leave_nothing(tmp_path, override):
    with pytest.raises(InputError, match=override.removeprefix("job.").partition("=")[0].removesuffix("._target_")):
        run(configured(tmp_path, override))
    assert not (tmp_path / "run").exists()
