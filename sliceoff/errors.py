"""Errors that the user can fix: one line that says what is wrong, where, and how to fix it."""

import difflib
import errno
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBRARY = Path(sysconfig.get_path("stdlib"))


class InputError(ValueError):
    """Wrong input (configuration, data file, checkpoint); `main.py` prints its one line and exits with code 2."""


class Diverged(RuntimeError):
    """Training diverged: the reason, and the last good checkpoint; `main.py` prints it and exits with code 1."""


class OptionError(InputError):
    """A wrong option. The code that refuses it knows its name; the code that builds the part adds the config key.

    Args:
        option: its name, such as `kappa`.
        wrong: what is wrong and how to fix it, to be read after the name: `=2 must lie between 0 and 1`.
    """

    def __init__(self, option: str, wrong: str):
        super().__init__(option, wrong)

    def __str__(self) -> str:
        return "".join(self.args)

    def under(self, key: str) -> "OptionError":
        """The same error with the config key `key` before the option's name: `slicer.kappa`."""
        option, wrong = self.args
        return OptionError(f"{key}.{option}", wrong)


@contextmanager
def system_errors() -> Iterator[None]:
    """Within this context, a full disk and a missing permission, which the user can mend, are an `InputError`."""
    try:
        yield
    except OSError as error:
        place, why = error.filename, error.strerror
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                raise InputError(f"cannot write {place or 'a file'} ({why}); make room on the disk") from error
            case errno.EACCES | errno.EPERM | errno.EROFS if place:
                raise InputError(f"no access to {place} ({why}); ask its owner, or name another") from error
        raise


@contextmanager
def under(key: str) -> Iterator[None]:
    """Build a part within this context: errors about its options then name them with the config key `key` in front.

    Raises:
        OptionError: an option is wrong, or the part (of torch or a user, say) raised another TypeError or ValueError.
    """
    try:
        yield
    except OptionError as error:
        raise error.under(key) from error.__cause__
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(key, f": {worded(error)}") from error


def worded(error: BaseException) -> str:
    """An error of Python, Hydra or Lightning as one line, with a hint where one is known, and the user's own line."""
    text = one_line(error)
    if text.endswith("object is not callable"):
        text += "; a part is chosen with a slash, such as predictor/loss=mae or allocator/network=mlp"
    return text + own_line(error)


def own_line(error: BaseException) -> str:
    """` (FILE:LINE)` of the innermost line of the user's own code in an error's traceback; empty if there is none."""
    while error.__cause__ is not None:
        error = error.__cause__
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        file = Path(frame.f_code.co_filename)
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        installed = _LIBRARY in file.parents or {"site-packages", "dist-packages"} & set(file.parts)
        if file.is_file() and not installed and package not in ("sliceoff", "callbacks"):
            return f" ({file}:{line})"
    return ""


def one_line(error: BaseException, most: int | None = None) -> str:
    """An error's message on one line, cut to its first `most` characters."""
    return " ".join(str(error).split())[:most]


def near_miss(word: str, options: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the option closest to `word`, or an empty string when none is close."""
    lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean '{lower[close[0]]}'?" if close else ""
