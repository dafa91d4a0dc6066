"""Standard streams that may be closed, full or unread, without an effect on the command.

Progress and messages go to standard error; if it cannot be written, they are dropped. Results go to standard output; if
it cannot be written, `OutputLost` is raised once, and the following output is dropped.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from typing import NoReturn, TextIO

from bulkstow.errors import ConfigurationError
from bulkstow.printing import shown


class OutputLost(ConfigurationError):
    """Standard output cannot be written; the following output is dropped."""


class ReaderLeft(OutputLost):
    """The reader of standard output has closed the pipe, as `head` does; this is no failure."""

    exit_status = 0


class StandardOutput(io.TextIOWrapper):
    """Standard output that raises OutputLost at the first failed write."""

    def write(self, text: str, /) -> int:
        """Write text."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop_the_rest(error)

    def flush(self) -> None:
        """Write the buffered text."""
        try:
            super().flush()
        except OSError as error:
            self._drop_the_rest(error)

    def write_blocks(self, blocks: Iterable[bytes]) -> None:
        """Write bytes after the text so far."""
        self.flush()
        try:
            for block in blocks:
                self.buffer.write(block)
            self.buffer.flush()
        except OSError as error:
            self._drop_the_rest(error)

    def _drop_the_rest(self, error: OSError) -> NoReturn:
        null_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_fd, self.fileno())
        os.close(null_fd)
        kind = ReaderLeft if isinstance(error, BrokenPipeError) else OutputLost
        raise kind(f"standard output cannot be written ({error.strerror})") from error


class StandardError(io.TextIOWrapper):
    """Standard error that never raises: text that cannot be written is dropped, after a lasting failure all text."""

    _is_lost = False

    def write(self, text: str, /) -> int:
        """Write text, or drop it."""
        try:
            return len(text) if self._is_lost else super().write(text)
        except BlockingIOError:
            pass  # another process made the terminal non-blocking: only this text is dropped
        except OSError:
            self._is_lost = True
        return len(text)

    def flush(self) -> None:
        """Write the buffered text, or drop it."""
        try:
            if not self._is_lost:
                super().flush()
        except BlockingIOError:
            pass
        except OSError:
            self._is_lost = True


def print_in_passing(text: str, out: TextIO | None = None) -> None:
    """Print text; if that fails, the exit status stays the same."""
    try:
        print(text, file=out, flush=True)
    except ReaderLeft:
        pass
    except OutputLost as error:
        print(f"bulkstow: {shown(str(error))}", file=sys.stderr)


def print_blocks(blocks: Iterable[bytes]) -> None:
    """Write bytes to standard output. Raises OutputLost."""
    out = sys.stdout
    if isinstance(out, StandardOutput):
        out.write_blocks(blocks)
    else:  # another program's, in its own process
        out.flush()
        for block in blocks:
            out.buffer.write(block)


def prepare_standard_streams() -> None:
    """Open closed descriptors among 0 to 2, and make the streams on 1 and 2 tolerate failures.

    Otherwise the next file or socket that is opened would get the descriptor, and messages would be written into it.
    `sys.stdin` stays None if descriptor 0 was closed, as that differs from an empty list of files.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is `fd`
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
