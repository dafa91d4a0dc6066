"""A stream that never holds up its writer: text goes to a thread of its own, which writes it when the stream takes it.

A terminal that was stopped with Ctrl-S, a pipe that nobody reads and a slow disk hold up that thread, and nothing else.
"""

from __future__ import annotations

import io
import queue
import threading
from contextlib import suppress
from typing import Protocol

PIECES_AHEAD = 1000
"""Some minutes of frames; beyond it text is dropped, as memory is bounded."""

LAST_WORDS_S = 2.0
"""How long the end of a run waits for a screen to take what is still to be written."""


class Stream(Protocol):
    """What progress is written to."""

    def write(self, text: str, /) -> int:
        """Write text."""

    def flush(self) -> None:
        """Write what is buffered."""

    def isatty(self) -> bool:
        """Say whether it is a terminal."""

    def fileno(self) -> int:
        """Return its descriptor; OSError where it has none."""


class BackgroundStream(io.TextIOBase):
    """Takes text without waiting; what the stream cannot take is dropped, and after a failure all that follows."""

    def __init__(self, stream: Stream, pieces_ahead: int = PIECES_AHEAD, last_words_s: float = LAST_WORDS_S) -> None:
        self._stream = stream
        self._last_words_s = last_words_s
        self.failure: OSError | ValueError | None = None
        """What went wrong; nothing is written any more."""
        self.dropped = 0
        """Pieces that were dropped because too many waited."""
        self._pieces: queue.Queue[str | None] = queue.Queue(pieces_ahead)
        self._writer = threading.Thread(target=self._write, name="write", daemon=True)
        self._writer.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Say whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the stream's descriptor, to ask for the terminal's size."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Say so."""
        return True

    def write(self, text: str, /) -> int:
        """Take text to be written."""
        try:
            self._pieces.put_nowait(text)
        except queue.Full:
            self.dropped += 1
        return len(text)

    def close(self) -> None:
        """Wait until everything is written, but not for long; the stream itself stays open."""
        if not self.closed:
            with suppress(queue.Full):
                self._pieces.put(None, timeout=self._last_words_s)
                self._writer.join(self._last_words_s)
        super().close()

    def _write(self) -> None:
        while (text := self._pieces.get()) is not None:
            if self.failure is None:
                try:
                    self._stream.write(text)
                    if self._pieces.empty():
                        self._stream.flush()
                except (OSError, ValueError) as error:  # ValueError: somebody closed it
                    self.failure = error
