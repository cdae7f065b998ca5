"""What every command does about signals and about the streams that it prints to."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from workflow.disk import FULL_DISK, disk_remedy
from workflow.errors import EXIT_DONE, EXIT_INTERRUPTED, SiteError, WorkflowError


def run_command(command: Callable[[], int]) -> int:
    """The exit code of a command line: that of ``command``, or of the error by which it ends, which is printed."""
    speak_any_language()
    try:
        with ended_by_signals():
            return command()
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        # Python kills itself at its exit, whatever the code, if the interrupt has passed through the exec() of a text,
        # as a dataclass has. The next one makes it forget that.
        exec("")
        print("; ".join(["interrupted", *map(str, error.args)]), file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # nobody reads any more
        return EXIT_DONE
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        return _untold(error)
    finally:
        flush()


def _untold(error: OSError) -> int:
    """The disk is full on which a redirected output lies."""
    with suppress(OSError):
        print(f"error: the output cannot be written ({error.strerror})\n    -> {disk_remedy(error)}", file=sys.stderr)
    return SiteError.exit_code


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """TERM and HUP end what is inside as Ctrl-C does, by KeyboardInterrupt: it then cleans up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def speak_any_language() -> None:
    """Escape what the terminal's encoding lacks: a run's name must not end it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write out what is buffered; where nobody reads any more, let Python not complain about it at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed before the start
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
