"""A picture of the same slot at every evaluation."""

import lightning.pytorch as pl
from matplotlib import image
from quiet import trainer

from callbacks import SlotFigure
from sliceoff.region import Equal, Greedy, Scenario


class Ruled(pl.LightningModule):
    """A rule in the guise of a module that learns."""

    def __init__(self, rule):
        super().__init__()
        self.scenario, self.allocate = Scenario(), rule.allocate


def drawn(directory, rule):
    SlotFigure(directory).on_validation_end(trainer(), Ruled(rule))
    return image.imread(directory / "slots" / "0000.png")


def test_draws_the_same_slot_and_what_the_policy_does_there(tmp_path):
    first, again, other = (
        drawn(tmp_path / name, rule) for name, rule in (("first", Greedy()), ("again", Greedy()), ("other", Equal()))
    )
    assert (first == again).all()
    assert first.shape != other.shape or (first != other).any()
