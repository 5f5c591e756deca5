"""Lightning callbacks that SliceOff adds to Lightning's own."""

from callbacks.compile import Compile as Compile
from callbacks.divergence_guard import DivergenceGuard as DivergenceGuard
from callbacks.interruption import Interruption as Interruption
from callbacks.progress_bar import ProgressBar as ProgressBar
from callbacks.random_state import RandomState as RandomState
from callbacks.slot_figure import SlotFigure as SlotFigure
from callbacks.unfrozen import Unfrozen as Unfrozen
