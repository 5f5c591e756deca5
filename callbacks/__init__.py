"""Lightning callbacks that SliceOff adds to Lightning's own."""

from callbacks.interruption import Interruption as Interruption
from callbacks.random_state import RandomState as RandomState
