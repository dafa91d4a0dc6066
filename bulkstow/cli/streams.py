"""Standard streams that may be closed, full or unread: output never decides how a command ends.

Standard error carries progress and messages: where it cannot be written, they are dropped. Standard output carries
results: where it cannot be written, `OutputLost` says so once, and what follows goes nowhere.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

from bulkstow.errors import ConfigurationError
from bulkstow.printing import shown


class OutputLost(ConfigurationError):
    """Standard output cannot be written; what is printed from now on is dropped."""


class ReaderLeft(OutputLost):
    """The reader of standard output has closed the pipe: it has seen enough, which is no failure."""

    exit_status = 0


class StandardOutput(io.TextIOWrapper):
    """Raises OutputLost, once, where a write fails."""

    def write(self, text: str, /) -> int:
        """Write text."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop_the_rest(error)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            super().flush()
        except OSError as error:
            self._drop_the_rest(error)

    def _drop_the_rest(self, error: OSError) -> NoReturn:
        null_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_fd, self.fileno())
        os.close(null_fd)
        kind = ReaderLeft if isinstance(error, BrokenPipeError) else OutputLost
        raise kind(f"standard output cannot be written ({error.strerror})") from error


class StandardError(io.TextIOWrapper):
    """Never raises: what cannot be written is dropped, and after a lasting failure all that follows."""

    _is_lost = False

    def write(self, text: str, /) -> int:
        """Write text, if that is possible."""
        with suppress(BlockingIOError):  # another process made the terminal non-blocking: only this is dropped
            try:
                return len(text) if self._is_lost else super().write(text)
            except BlockingIOError:
                raise
            except OSError:
                self._is_lost = True
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, if that is possible."""
        try:
            if not self._is_lost:
                super().flush()
        except BlockingIOError:
            pass
        except OSError:
            self._is_lost = True


def print_in_passing(text: str, out: TextIO | None = None) -> None:
    """Print text whose loss changes nothing of what was done: the exit status stays as it is."""
    try:
        print(text, file=out, flush=True)
    except ReaderLeft:
        pass
    except OutputLost as error:
        print(f"bulkstow: {shown(str(error))}", file=sys.stderr)


def prepare_standard_streams() -> None:
    """Open descriptors 0 to 2 where they are closed, and make the streams on 1 and 2 bear failures.

    A closed one would go to the next file or socket that is opened, and a stray message into it. `sys.stdin` stays
    None where there was none: an empty list of files is something else.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    sys.stdout = _wrapped(sys.stdout, StandardOutput, 1)
    sys.stderr = _wrapped(sys.stderr, StandardError, 2)


def _wrapped(stream: object, kind: type[io.TextIOWrapper], fd: int) -> io.TextIOWrapper:
    if not isinstance(stream, io.TextIOWrapper):
        return kind(os.fdopen(fd, "wb", closefd=False), encoding="utf-8", errors="backslashreplace")
    return kind(
        stream.buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
