"""Every option of the data and windows groups says what the code says."""

import inspect

import numpy as np
import pytest
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from sliceoff.config import CONFIGS, configure, options
from sliceoff.data import Trace, TrafficDataModule, synthetic_trace

WINDOWS = sorted((CONFIGS / "windows").glob("*.yaml"))


@pytest.mark.parametrize("option", options("data"))
def test_data_options_are_the_arguments_with_their_defaults(option):
    node = configure(f"data={option}").data
    parameters = inspect.signature(get_method(node._target_)).parameters
    assert set(node) == {"_target_", *parameters}
    for name, parameter in parameters.items():
        if name == "path":
            assert OmegaConf.is_missing(node, name)
        elif name != "seed":
            assert node[name] == parameter.default, name


@pytest.mark.parametrize("path", WINDOWS, ids=lambda path: path.stem)
def test_windows_options_make_a_datamodule(path):
    times = np.datetime64("2024-01-01", "s") + np.arange(14_400) * np.timedelta64(3600, "s")
    trace = Trace(np.random.default_rng(0).random((14_400, 2)), times, ("a", "b"), 3600)
    config = OmegaConf.merge({"seed": 7}, {"windows": OmegaConf.load(path)})  # the group refers to the run's seed
    datamodule = instantiate(config.windows, _convert_="all", _partial_=True)(trace)
    assert isinstance(datamodule, TrafficDataModule)
    assert datamodule.horizon == config.windows.horizon


def test_the_default_windows_fit_the_default_trace_and_a_week_of_ten_minutes():
    config = OmegaConf.merge({"seed": 7}, {"windows": OmegaConf.load(CONFIGS / "windows" / "default.yaml")})
    for days, step_s in ((84, 3600), (7, 600)):
        trace = synthetic_trace(days=days, step_s=step_s)
        datamodule = instantiate(config.windows, _convert_="all", _partial_=True)(trace)
        assert datamodule.input_length > datamodule.season_length  # yesterday is seen
        assert len(datamodule.train_windows) > 10 * datamodule.horizon
