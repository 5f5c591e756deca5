"""The command line: what is wrong, in one line, and how a run ended, as an exit code."""

import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sliceoff.config import CONFIGS, check_words, explain
from sliceoff.errors import Diverged, InputError
from sliceoff.signals import ENDING, handle

INTERRUPTED, TERMINATED, WRONG_INPUT, DIVERGED = 130, 143, 2, 1

_failures: list[int] = []  # exit codes of a grid's jobs (`-m`) that failed: the grid goes on
_signals: list[int] = []  # those that asked this process to stop


def main() -> None:
    """The command line: 0 done, 2 wrong input, 1 training diverged (one line on stderr), 130 Ctrl-C, 143 SIGTERM.

    A grid (`-m`) runs all its jobs and ends with the highest of their exit codes.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing, and `explain` words it
    try:
        check_words(sys.argv[1:])
    except InputError as error:
        _fail(str(error))
    # First, because argparse refuses words on both sides of it.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    _failures.clear()
    _signals.clear()
    # A shell makes its background jobs ignore Ctrl-C.
    before = handle({number: _stop for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN})
    try:
        _hydra_main()
    except BrokenPipeError:  # `main.py --help | head`: nobody reads on, and Python would say so once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if (stop := _interruption(error)) is not None:
            print(f"interrupted; {stop or 'nothing was done yet'}", file=sys.stderr)
            sys.exit(TERMINATED if signal.SIGTERM in _signals else INTERRUPTED)
        if isinstance(error, HydraException | OmegaConfBaseException):
            _fail(explain(error, sys.argv[1:]))
        raise
    finally:
        handle(before)
    if _failures:
        sys.exit(max(_failures))


@hydra.main(config_path=str(CONFIGS), config_name="main", version_base="1.3")
def _hydra_main(cfg: DictConfig) -> dict[str, Any] | None:
    from sliceoff.run import run  # here, because torch takes seconds that help, completion and typos can do without

    try:
        if _signals:  # Python drops what is raised in a destructor or a weak reference's callback
            raise KeyboardInterrupt("go on with init=resume")
        result = run(cfg)
    except Exception as error:  # here, because Hydra would print a line of its own
        if (stop := _interruption(error)) is not None:
            raise KeyboardInterrupt(stop) from None
        _failed(error)
        return None
    print(result.directory)
    return result.summary


def _stop(number: int, _: object) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt  # SIGTERM is Ctrl-C with another exit code


def _failed(error: Exception) -> None:
    """Say why a job failed, and end with its exit code: at once, or where it is one of a grid's, when all have run."""
    job = HydraConfig.get()
    given, of_grid = list(job.overrides.task), job.mode is RunMode.MULTIRUN
    match error:
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
    """What Ctrl-C has to say if it is behind an error, as where Hydra or OmegaConf trip over it; else None."""
    seen: list[BaseException] = []  # one that was raised again can be behind itself
    while error is not None and error not in seen:
        if isinstance(error, KeyboardInterrupt):
            return str(error)
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(WRONG_INPUT)
