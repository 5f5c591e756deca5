"""A config in a notebook: refused as on the command line, and without what a checkpoint brings."""

import pytest

from sliceoff.config import configure
from sliceoff.errors import InputError
from sliceoff.run_config import in_force


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("predictor=liner", "did you mean 'linear'"),
        ("predictor=null", "predictor=null: choose one of dlinear"),
        ("windows.horizn=3", "did you mean 'windows.horizon'"),
        ("=3", "write key=value"),
    ],
)
def test_what_the_command_line_refuses_a_notebook_is_told(word, message):
    with pytest.raises(InputError, match=message):
        configure(word)


@pytest.mark.parametrize(
    ("init", "predictor", "horizon"),
    [("checkpoint", False, False), ("predictor", False, True), ("allocator", True, True)],
)
def test_what_a_checkpoint_brings_is_not_in_force(init, predictor, horizon):
    cfg = configure(f"init.{init}=somewhere", "windows.horizon=7")
    content = in_force(cfg)
    assert ("predictor" in content, content["windows"].get("horizon") == 7) == (predictor, horizon)
    assert (cfg.windows.horizon, content["init"][init]) == (7, "somewhere")
