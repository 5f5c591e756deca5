import jaxtyping
import pytest


@pytest.fixture
def as_at_run_time(monkeypatch):
    """Annotations are checked in tests alone: without them, wrong types reach the checks that users meet."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
