"""Every option of every config group builds, and a class from the user's own package is one line away."""

import inspect

import numpy as np
import polars
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from sliceoff.config import CONFIGS, configure
from sliceoff.run import Parts

OPTIONS = [
    (group, file.stem)
    for group in ("data", "windows", "region", "offers", "predictor", "slicer", "allocator", "rivals", "logger")
    for file in sorted((CONFIGS / group).glob("*.yaml"))
]

# An ensemble has no network, and the other recurrent one is of the same class.
NETWORKS = sorted({file.stem for file in (CONFIGS / "predictor").glob("*.yaml")} - {"ensemble", "lstm"})


@pytest.fixture
def files(tmp_path):
    """A small file of every format."""
    times = (np.datetime64("2024-01-01T00:00:00", "ms") + np.arange(500) * np.timedelta64(3600, "s")).astype(
        "datetime64[ms]"
    )
    values = 50 + 30 * np.sin(2 * np.pi * np.arange(500) / 24)
    wide = polars.DataFrame({"time": times, "north": values, "south": values / 2})
    long = wide.unpivot(index="time", variable_name="region", value_name="value")
    stamps = (times.astype("datetime64[ms]").astype(np.int64)).tolist()
    milan = "".join(f"5059\t{t}\t39\t\t\t\t\t{v}\n" for t, v in zip(stamps, values, strict=True))
    for frame, name in ((wide, "wide"), (long, "long")):
        frame.write_csv(tmp_path / f"{name}.csv")
        frame.write_parquet(tmp_path / f"{name}.parquet")
    np.savez(tmp_path / "values.npz", values=wide.select("north", "south").to_numpy(), times=times)
    (tmp_path / "milan.txt").write_text(milan)
    return {
        "wide_csv": tmp_path / "wide.csv",
        "long_csv": tmp_path / "long.csv",
        "wide_parquet": tmp_path / "wide.parquet",
        "long_parquet": tmp_path / "long.parquet",
        "npz": tmp_path / "values.npz",
        "milan": tmp_path / "milan.txt",
    }


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_option_builds(group, option, files, tmp_path):
    overrides = [f"{group}={option}"]
    if option in files:
        overrides += [f"data.path={files[option]}"]
    if (group, option) == ("windows", "ett"):
        overrides += ["data.days=800", "data.n_regions=1"]
    if (group, option) == ("predictor", "ensemble"):
        member = Parts(configure("predictor=linear")).forecaster
        torch.save({"spec": member.spec, "state_dict": member.state_dict()}, tmp_path / "member.ckpt")
        overrides += [f"predictor.members=[{tmp_path / 'member.ckpt'}]"]
    parts = Parts(configure(*overrides))
    assert len(parts.trace.regions) >= 1
    assert parts.datamodule.train_values.shape[0] > 0
    assert parts.stacks()[0].name == "main"
    parts.check_loggers()


@pytest.mark.parametrize("job", sorted(file.stem for file in (CONFIGS / "job").glob("*.yaml")))
def test_every_job_builds(job):
    needed = ["job.runs=[somewhere]"] if job in ("report", "seeds") else []
    assert Parts(configure(f"job={job}", *needed)).job.name == job


@pytest.mark.parametrize("group", ["init", "trainer", "callbacks", "debug", "experiment"])
def test_every_other_option_composes(group):
    for file in (CONFIGS / group).glob("*.yaml"):
        assert configure(f"{group}={file.stem}")


@pytest.mark.parametrize(
    ("option", "key"),
    [
        *((f"predictor={name}", "predictor.network") for name in NETWORKS),
        ("allocator=dual", "allocator"),
        *((f"allocator/network={name}", "allocator.network") for name in ("set", "mlp")),
        *((f"allocator/decoder={name}", "allocator.decoder") for name in ("prices", "packing", "paper")),
    ],
)
def test_a_notebook_gets_what_the_config_has(option, key):
    """What is not given to a class is as its config has it."""
    node = OmegaConf.select(configure(option), key)
    for name, value in OmegaConf.to_container(node, resolve=True).items():
        parameter = inspect.signature(get_class(node._target_)).parameters.get(name)
        if parameter is not None and parameter.default is not parameter.empty:
            default = parameter.default
            assert value == (list(default) if isinstance(default, tuple) else default), name


def test_a_class_of_the_users_own_package_needs_no_edit_here(tmp_path, monkeypatch):
    (tmp_path / "generous_slicer.py").write_text(
        "class Generous:\n"
        "    def __init__(self, offers, scenario, share):\n"
        "        self.share = share\n"
        "    def rent(self, request):\n"
        "        raise RuntimeError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    parts = Parts(
        configure(
            "slicer=cheapest",
            "slicer._target_=generous_slicer.Generous",
            "~slicer.kappa",
            "~slicer.z",
            "+slicer.share=0.5",
        )
    )
    assert parts.main_stack().slicer.share == 0.5
