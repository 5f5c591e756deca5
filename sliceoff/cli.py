"""The command line: errors as one line, the end of a run as an exit code."""

import os
import signal
import sys
import traceback
from io import TextIOWrapper
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sliceoff.config import CONFIGS, check_words, explain
from sliceoff.errors import Diverged, InputError
from sliceoff.signals import ENDING, handle

INTERRUPTED, TERMINATED, WRONG_INPUT, DIVERGED = 130, 143, 2, 1

_failures: list[int] = []  # exit codes of failed jobs of a grid (`-m`), which goes on after a failure
_signals: list[int] = []  # those that asked this process to stop


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 training diverged, 2 wrong input, 130 Ctrl-C, 143 SIGTERM.

    A grid (`-m`) runs all its jobs and ends with the highest of their exit codes.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing, and `explain` words it
    if isinstance(sys.stdout, TextIOWrapper):  # no bar or name may end a run where the locale knows few letters
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_words(sys.argv[1:])
    except InputError as error:
        _fail(str(error))
    # `-m` comes first, because argparse refuses positional words on both sides of it.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    _failures.clear()
    _signals.clear()
    # A shell makes its background jobs ignore Ctrl-C.
    before = handle({number: _stop for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN})
    try:
        _hydra_main()
    except BrokenPipeError:  # `main.py --help | head`
        _unread()
    except (Exception, KeyboardInterrupt) as error:
        if (stop := _interruption(error)) is not None:
            print(f"interrupted; {stop or 'nothing was done yet'}", file=sys.stderr)
            sys.exit(TERMINATED if signal.SIGTERM in _signals else INTERRUPTED)
        if isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
            _fail(explain(error, sys.argv[1:]))
        raise
    finally:
        handle(before)
    if _failures:
        sys.exit(max(_failures))


@hydra.main(config_path=str(CONFIGS), config_name="main", version_base="1.3")
def _hydra_main(cfg: DictConfig) -> dict[str, Any] | None:
    from sliceoff.run import run  # imported here: torch takes seconds, and help, completion and typos do not need it

    try:
        if _signals:  # Python drops what is raised in a destructor or a weak reference's callback
            raise KeyboardInterrupt("go on with init=resume")
        result = run(cfg)
        print(result.directory)
    except Exception as error:  # caught here, because Hydra would print a line of its own
        if (stop := _interruption(error)) is not None:
            raise KeyboardInterrupt(stop) from None
        _failed(error)
        return None
    return result.summary


def _stop(number: int, _: object) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt  # SIGTERM is Ctrl-C with another exit code


def _failed(error: Exception) -> None:
    """Print why a job failed and exit with its code; in a grid, keep the code until all jobs have run."""
    job = HydraConfig.get()
    given, of_grid = list(job.overrides.task), job.mode is RunMode.MULTIRUN
    match error:
        case BrokenPipeError() if _is_unread():
            _unread()
        case Diverged():
            code, line = DIVERGED, f"stopped: {error}"
        case InputError():
            code, line = WRONG_INPUT, f"error: {error}"
        case HydraException() | OmegaConfBaseException():
            code, line = WRONG_INPUT, f"error: {explain(error, given)}"
        case _ if of_grid:
            code, line = 1, traceback.format_exc().rstrip()
        case _:
            raise error
    if not of_grid:
        print(line, file=sys.stderr)
        sys.exit(code)
    print(f"{line} (of {' '.join(given)})", file=sys.stderr)
    _failures.append(code)


def _interruption(error: BaseException | None) -> str | None:
    """The message of the KeyboardInterrupt in an error's causes (Hydra and OmegaConf may wrap it); None if none."""
    seen: list[BaseException] = []  # an error that was raised again can be among its own causes
    while error is not None and error not in seen:
        if isinstance(error, KeyboardInterrupt):
            return str(error)
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _is_unread() -> bool:
    """Whether the reader of the output is gone; a job may have other pipes, too."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


def _unread() -> NoReturn:
    """End without a word: the reader of the output is gone, which Python would report again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(WRONG_INPUT)


if __name__ == "__main__":
    main()
