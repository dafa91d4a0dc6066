"""What a run shows on standard error while it goes on: bars on a terminal, lines elsewhere, or nothing.

Reads the tally every so often; the pipeline never waits for a screen. No patient's name or ID comes here, as none is in
the figures.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import Literal, Never, Protocol

from tqdm import tqdm

from bulkstow.printing import shown
from bulkstow.progress.background import Stream
from bulkstow.progress.figures import Figures
from bulkstow.progress.tally import Tally

BAR_INTERVAL_S = 0.2
LINE_INTERVAL_S = 30.0
"""A night's run makes a thousand lines."""

WIDEST_COLUMNS = 100
"""Longer lines are hard to read."""


class Display(Protocol):
    """Shows a tally every `interval_s` seconds."""

    interval_s: float

    def show(self, tally: Tally) -> None:
        """Show the figures as they are."""

    def say(self, text: str) -> None:
        """Show a line that has nothing to do with figures."""

    def close(self, tally: Tally) -> None:
        """Show the figures for the last time, if there are any."""


def display(kind: Literal["auto", "bar", "log", "none"], stream: Stream | None = None) -> Display:
    """Return the display that the user chose; `auto` looks whether there is a terminal that can move its cursor."""
    stream = stream or sys.stderr
    match kind:
        case "auto":
            can_draw = stream.isatty() and os.environ.get("TERM") != "dumb"
            return Bar(stream) if can_draw else Lines(stream)
        case "bar":
            return Bar(stream)
        case "log":
            return Lines(stream)
        case "none":
            return Nothing()


class Nothing:
    """Shows nothing."""

    interval_s = LINE_INTERVAL_S

    def show(self, tally: Tally) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def close(self, tally: Tally) -> None:
        """Show nothing."""


class Lines:
    """Writes a line with the time, for logs."""

    interval_s = LINE_INTERVAL_S

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._figures = Figures()

    def show(self, tally: Tally) -> None:
        """Write a line of figures."""
        self.say(self._figures.line(tally))

    def say(self, text: str) -> None:
        """Write a line."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._stream.write(f"{now} {shown(text)}\n")
        self._stream.flush()

    def close(self, tally: Tally) -> None:
        """Write the last line, if anything was looked at."""
        if tally.has_begun:
            self.show(tally)


class Bar:
    """Draws a bar, and below it as many lines of figures as they need: none is cut off, however narrow the terminal.

    A frame is one write. Between frames the cursor stands at the beginning of the bar: what the terminal does to the
    lines when it becomes narrower happens below the cursor, and is erased.
    """

    interval_s = BAR_INTERVAL_S

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._canvas = _Canvas(stream)
        self._figures = Figures()
        self._drawn: list[tqdm[Never]] = []
        """The bar, and the lines below it as they are needed."""
        self._columns = 0
        tqdm.monitor_interval = 0  # we refresh by ourselves: no thread of its own

    def show(self, tally: Tally) -> None:
        """Draw everything anew."""
        self._draw(tally)
        self._canvas.write("\r")
        self._put()

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        tqdm.write(shown(text), file=self._canvas)
        self._canvas.write("\r" if self._drawn else "")
        self._put()

    def close(self, tally: Tally) -> None:
        """Draw everything for the last time and leave it there; if nothing was looked at, take it away."""
        last: list[str] = []
        if tally.has_begun:
            bar, *texts = self._draw(tally)
            last = [str(bar), *(text.desc for text in texts if text.desc)]
        self._erase()
        self._canvas.write("".join(f"{line}\n" for line in last))
        self._put()

    def _draw(self, tally: Tally) -> list[tqdm[Never]]:
        columns = min(_columns(self._stream) - 1, WIDEST_COLUMNS)
        if columns != self._columns:
            self._erase()
        self._columns = columns
        failed, *others = self._figures.of(tally)
        texts = [failed, *packed(others, columns)]
        while len(self._drawn) < len(texts):
            self._drawn.append(self._added(len(self._drawn)))
        self._drawn[0].total, self._drawn[0].n = _progress(tally)
        for number, drawn in enumerate(self._drawn):
            drawn.set_description_str(texts[number] if number < len(texts) else "", refresh=True)
        return self._drawn

    def _added(self, place: int) -> tqdm[Never]:
        """Return a bar, or below it a line without one, which tqdm does not draw yet."""
        bar_format = "{desc}" if place else "{desc} |{bar}| {percentage:3.0f}%"
        return tqdm(
            bar_format=bar_format, file=self._canvas, ncols=self._columns, position=place, leave=False, total=1, delay=1
        )

    def _erase(self) -> None:
        """Erase all lines, not as tqdm does: by spaces for as many columns as there were, which the terminal wraps."""
        if self._drawn:
            for drawn in self._drawn:
                drawn.close()
            self._drawn = []
            self._canvas.take()
            self._canvas.write("\r\x1b[J")

    def _put(self) -> None:
        self._stream.write(self._canvas.take())
        self._stream.flush()


class _Canvas(io.StringIO):
    """Gathers what tqdm draws."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's: tqdm draws with blocks where it can."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def take(self) -> str:
        """Return what was drawn since the last time."""
        drawn = self.getvalue()
        self.seek(0)
        self.truncate()
        return drawn


def packed(parts: Sequence[str], columns: int) -> list[str]:
    """Return lines of at most so many columns, with commas between parts; only a part that is too long is broken."""
    lines: list[str] = []
    for part in parts:
        for piece in wrap(part, max(columns, 1), break_on_hyphens=False):
            if lines and len(lines[-1]) + len(", ") + len(piece) <= columns:
                lines[-1] += f", {piece}"
            else:
                lines.append(piece)
    return lines


def _progress(tally: Tally) -> tuple[int, int]:
    """Return the total and what is done of it, in bytes; in files where there are no bytes."""
    if tally.found_bytes > 0:
        return tally.found_bytes, min(tally.settled_bytes, tally.found_bytes)
    total = max(tally.found_files, 1)
    return total, min(tally.settled_files, total)


def _columns(stream: Stream) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal, or none any more
        return 80
