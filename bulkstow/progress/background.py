"""A stream that never holds up its writer: text goes to a thread of its own, which writes it when the stream takes it.

A terminal that was stopped with Ctrl-S, a pipe that nobody reads and a slow disk hold up that thread, and nothing else.
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

PIECES_AHEAD = 1000
"""Some minutes of frames; beyond it text is dropped, as memory is bounded."""

LAST_WORDS_S = 2.0
"""How long the end of a run waits for what is still to be written."""


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
    """Takes text without waiting; what the stream cannot take is dropped, and after a failure all that follows.

    `on_failure` is called once, in the thread, with what went wrong.
    """

    def __init__(self, stream: Stream, on_failure: Callable[[OSError | ValueError], None] = lambda _: None) -> None:
        self._stream = stream
        self._on_failure = on_failure
        self._pieces: queue.Queue[str | None] = queue.Queue(PIECES_AHEAD)
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
        with suppress(queue.Full):
            self._pieces.put_nowait(text)
        return len(text)

    def close(self) -> None:
        """Wait until everything is written, but not for long; the stream itself stays open."""
        if not self.closed:
            with suppress(queue.Full):
                self._pieces.put(None, timeout=LAST_WORDS_S)
                self._writer.join(LAST_WORDS_S)
        super().close()

    def _write(self) -> None:
        is_lost = False
        while (text := self._pieces.get()) is not None:
            if is_lost:
                continue
            try:
                self._stream.write(text)
                if self._pieces.empty():
                    self._stream.flush()
            except (OSError, ValueError) as error:  # ValueError: somebody closed it
                is_lost = True
                self._on_failure(error)
