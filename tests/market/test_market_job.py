"""`job=market` end to end."""

import json

import polars
import pytest

from sliceoff.errors import InputError
from sliceoff.market import Family
from sliceoff.report.market import margins
from sliceoff.run import configure, run

FEW = [
    "job=market",
    "job.scenarios=2",
    "job.simulated_tasks=1000",
    "job.mechanisms.centralised.evaluations=4",
    "job.family.n_applications=3",
]
LITTLE = {"past_markets": 2, "past_bargains": 1, "bargains": 2, "rounds": 1, "supply_steps": 40, "sweeps": 4}
FEW += [f"job.mechanisms.decentralised.{name}={value}" for name, value in LITTLE.items()]


def configured(tmp_path, *overrides):
    return configure(*FEW, f"run_dir={tmp_path / 'run'}", *overrides)


def test_all_mechanisms_clear_the_same_markets_and_a_report_is_left(tmp_path):
    result = run(configured(tmp_path))
    assert result.table["mechanism"].n_unique() == 7
    assert len(result.table) == 14
    assert set(result.table["scenario"]) == {0, 1}
    wide = result.table.pivot("mechanism", index="scenario", values="revenue")
    assert (wide["optimum"] >= wide["known_supply"] - 1e-6).all()
    assert (result.directory / "report.html").read_text().count("<svg") == 2
    assert polars.read_parquet(result.directory / "results.parquet").equals(result.table)
    summary = json.loads((result.directory / "summary.json").read_text())
    assert "margin_over_greedy_percent" in summary
    # What is known of a queue after that many tasks, several times over.
    assert summary["centralised/worst_response_error_percent"] < 100 * 5 * 2 / 1000**0.5


def test_margins_are_medians_over_the_markets_in_which_the_other_earns():
    earned = {
        "centralised": [12.0, 30.0, 7.0, 5.0],
        "greedy": [10.0, 20.0, 0.0, 4.0],
        "optimum": [13.0, 31.0, 8.0, 6.0],
    }
    table = polars.concat(
        polars.DataFrame({"mechanism": name, "scenario": range(4), "revenue": revenue})
        for name, revenue in earned.items()
    )
    assert margins(table) == pytest.approx({"margin_over_greedy_percent": 25})  # of 20, 50 and 25; not the optimum


@pytest.mark.parametrize("begun", [0, 20])
def test_a_stopped_run_clears_only_what_is_left(tmp_path, begun):
    whole = run(configured(tmp_path, "job.simulated_tasks=0"))
    log = whole.directory / "cleared.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    kept = lines[:5]
    log.write_text("".join(kept) + lines[5][:begun])  # killed between two markets, or within a line
    (whole.directory / "summary.json").unlink()
    resumed = run(configured(tmp_path, "job.simulated_tasks=0", "init=resume", f"init.run={whole.directory}"))
    assert resumed.directory == whole.directory
    assert resumed.table.drop("seconds").equals(whole.table.drop("seconds"))
    now = log.read_text().splitlines(keepends=True)
    assert now[:5] == kept
    assert len([json.loads(line) for line in now]) == len(lines)


def test_a_market_from_a_file_and_a_mechanism_of_ones_own(tmp_path, monkeypatch):
    Family(n_applications=2).draw(7).save(tmp_path / "market.json")
    (tmp_path / "closed_market.py").write_text(
        "from sliceoff.market import nobody_hired\n"
        "class Closed:\n"
        "    def clear(self, scenario):\n"
        "        return nobody_hired(scenario)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "+job.mechanisms.closed={_target_: closed_market.Closed}"
    result = run(configured(tmp_path, f"job.scenario={tmp_path / 'market.json'}", own, "job.mechanisms.optimum=null"))
    names = set(result.table["mechanism"])
    assert "closed" in names
    assert "optimum" not in names
    assert result.summary["closed/revenue"] == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("job.scenarios=0", "job.scenarios=0"),
        ("job.family.value=[3,1]", "job.family.value"),
        ("job.family.value=[1e300,1e300]", "job.family.value"),
        ("job.family.work=[1e-300,1e-299]", "job.family.work"),
        ("job.family.n_servers=0", "job.family.n_servers=0"),
        ("job.mechanisms.greedy.share=2", "job.mechanisms.greedy.share=2"),
        ("+job.mechanisms.mine={_target_: sliceoff.market.Greedy, share: 2}", "job.mechanisms.mine.share=2"),
        ("job.mechanisms.max_transaction.theta=2", "job.mechanisms.max_transaction.theta=2"),
        ("job.mechanisms.centralised.search.seed=-1", "job.mechanisms.centralised.search.seed=-1"),
        ("job.mechanisms.decentralised.seed=99999999999", "job.mechanisms.decentralised.seed=99999999999"),
        ("job.mechanisms.decentralised.bands=[2,1]", "job.mechanisms.decentralised.bands"),
        ("job.mechanisms.decentralised.checkpoint=nope.ckpt", "job.mechanisms.decentralised.checkpoint: no checkpoint"),
        ("job.scenario=nowhere.json", "nowhere.json"),
        ("+job.mechanisms.mine={_target_: builtins.object}", "mine"),
    ],
)
def test_wrong_input_leaves_nothing(tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        run(configured(tmp_path, override))
    assert not (tmp_path / "run").exists()


WRONG_TYPES = {
    "job.mechanisms.centralised.search=null": "job.mechanisms.centralised.search=None has no method ask",
    "job.mechanisms.centralised.search=3": "job.mechanisms.centralised.search=3 has no method ask",
    "job.mechanisms.centralised.search.seed=abc": "job.mechanisms.centralised.search.seed='abc'",
    "job.mechanisms.centralised.followers=3": "job.mechanisms.centralised.followers=3 has no method",
    "job.mechanisms.decentralised.past=null": "job.mechanisms.decentralised.past=None has no method draw",
    "+job.mechanisms.decentralised.past.n_servers=0": "job.mechanisms.decentralised.past.n_servers=0",
    "job.mechanisms.decentralised.noise={_target_: sliceoff.market.Greedy}": "job.mechanisms.decentralised.noise=Greedy",
    "job.mechanisms.decentralised.noise={_target_: sliceoff.market.decentralised.Noise, epsilon: abc}": (
        "job.mechanisms.decentralised.noise.epsilon='abc'"
    ),
    "job.mechanisms.decentralised.seed=1.5": "job.mechanisms.decentralised.seed=1.5",
    "job.mechanisms.decentralised.bands=3": "job.mechanisms.decentralised.bands=3",
    "job.mechanisms=null": "job.mechanisms is empty; add one with +market@job.mechanisms.mine=auction",
    "job.mechanisms.auction=3": "job.mechanisms.auction=3 has no method clear",
    "job.family=3": "job.family=3 has no method draw",
}


@pytest.mark.usefixtures("as_at_run_time")
@pytest.mark.parametrize(("override", "message"), WRONG_TYPES.items())
def test_options_of_other_types_are_told_by_their_keys(tmp_path, monkeypatch, override, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        run(configure("job=market", "job.scenarios=1", "run_dir=run", override))
    assert str(refused.value).startswith(message)
    assert not list(tmp_path.iterdir())
