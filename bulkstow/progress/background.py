"""A stream that never blocks its caller: a thread of its own writes the text.

A terminal that is stopped with Ctrl-S, a pipe without a reader and a slow disk block only this thread.
"""

from __future__ import annotations

import io
import queue
import threading
from contextlib import suppress
from typing import Protocol

PIECES_AHEAD = 1000
"""The most pieces of text that wait to be written; more are dropped, so that memory is bounded. Frames of 3 minutes."""

CLOSE_TIMEOUT_S = 2.0
"""Time that `close` waits for the text that is still to be written. It delays the end of a run."""


class Stream(Protocol):
    """A text stream to which progress is written."""

    def write(self, text: str, /) -> int:
        """Write text."""

    def flush(self) -> None:
        """Write the buffered text."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""

    def fileno(self) -> int:
        """Return its descriptor. Raises OSError if it has none."""


class BackgroundStream(io.TextIOBase):
    """A stream that accepts text without waiting; text is dropped if too much waits, and after a failure."""

    def __init__(
        self, stream: Stream, pieces_ahead: int = PIECES_AHEAD, close_timeout_s: float = CLOSE_TIMEOUT_S
    ) -> None:
        self._stream = stream
        self._close_timeout_s = close_timeout_s
        self.failure: OSError | ValueError | None = None
        """The error of a failed write; nothing is written after it."""
        self.dropped = 0
        """Number of pieces that were dropped because too many waited."""
        self._pieces: queue.Queue[str | None] = queue.Queue(pieces_ahead)
        self._writer = threading.Thread(target=self._write, name="write", daemon=True)
        self._writer.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the stream's descriptor, for the terminal's size."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str, /) -> int:
        """Queue text to be written."""
        try:
            self._pieces.put_nowait(text)
        except queue.Full:
            self.dropped += 1
        return len(text)

    def close(self) -> None:
        """Wait until everything is written, with a time limit; the stream itself stays open."""
        if not self.closed:
            with suppress(queue.Full):
                self._pieces.put(None, timeout=self._close_timeout_s)
                self._writer.join(self._close_timeout_s)
        super().close()

    def _write(self) -> None:
        while (text := self._pieces.get()) is not None:
            if self.failure is None:
                try:
                    self._stream.write(text)
                    if self._pieces.empty():
                        self._stream.flush()
                except (OSError, ValueError) as error:  # ValueError: the stream is closed
                    self.failure = error
