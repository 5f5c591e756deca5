"""A config in a notebook: refused as on the command line, and without what a checkpoint brings."""

import pytest
from omegaconf import OmegaConf

from sliceoff.config import configure
from sliceoff.errors import InputError
from sliceoff.run import run
from sliceoff.run_config import deciding, in_force, repeatable


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("predictor=liner", "did you mean 'linear'"),
        ("predictor=null", "predictor=null: choose one of dlinear"),
        ("windows.horizn=3", "did you mean 'windows.horizon'"),
        ("=3", "write key=value"),
        ("--config-dir", "config_dir=DIR"),
        ("-m", "is for the command line"),
        ("job.days=[1,2", r"^job.days=\[1,2 cannot be read; mend its key or brackets$"),
        ("run_dir=runs/lr=0.1", "^run_dir=runs/lr=0.1 cannot be read; .*: 'run_dir=\"runs/lr=0.1\"'$"),
    ],
)
def test_what_the_command_line_refuses_a_notebook_is_told(word, message):
    with pytest.raises(InputError, match=message):
        configure(word)


def test_own_options_and_a_saved_config_are_found(tmp_path):
    (tmp_path / "slicer").mkdir()
    (tmp_path / "slicer" / "mine.yaml").write_text("_target_: mine.Slicer\n")
    cfg = configure("slicer=mine", "windows.horizon=7", config_dir=tmp_path)
    assert cfg.slicer._target_ == "mine.Slicer"
    (tmp_path / "config.yaml").write_text(repeatable(cfg))
    again = configure("seed=3", config_dir=str(tmp_path), config_name="config")
    assert deciding(in_force(again)) == deciding(in_force(cfg)) | {"seed": 3}


def test_a_saved_config_that_is_not_composed_is_refused_with_the_way_to_run_it(tmp_path):
    (tmp_path / "config.yaml").write_text(repeatable(configure()))
    with pytest.raises(InputError, match=r'run\(configure\(config_dir=RUN, config_name="config"\)\)'):
        run(OmegaConf.load(tmp_path / "config.yaml"))


def test_what_is_in_force_is_what_the_run_sees():
    cfg = configure("run_dir='runs/${now:%f}'", "mean_users='${.seed}'")  # microseconds: read once
    content = in_force(cfg)
    assert (content["run_dir"], content["mean_users"]) == (cfg.run_dir, cfg.seed)
    assert "hydra" not in content


def test_a_file_that_is_no_yaml_is_told_in_one_line(tmp_path):
    (tmp_path / "config.yaml").write_text("a: [1\nb: 2\n")
    with pytest.raises(InputError, match=r"while parsing .*config\.yaml"):
        configure(config_dir=tmp_path, config_name="config")


@pytest.mark.parametrize(("place", "message"), [("config_dir", "no directory"), ("config_name", "no config 'absent'")])
def test_a_directory_or_config_that_is_not_there_is_told(place, message):
    with pytest.raises(InputError, match=message):
        configure(**{place: "absent"})


@pytest.mark.parametrize(
    ("init", "predictor", "horizon"),
    [("checkpoint", False, False), ("predictor", False, True), ("allocator", True, True)],
)
def test_what_a_checkpoint_brings_is_not_in_force(init, predictor, horizon):
    cfg = configure(f"init.{init}=somewhere", "windows.horizon=7")
    content = in_force(cfg)
    assert ("predictor" in content, content["windows"].get("horizon") == 7) == (predictor, horizon)
    assert (cfg.windows.horizon, content["init"][init]) == (7, "somewhere")
