"""A terminal or a log to show progress on: lines that are drawn anew, or lines with the time, below one another.

Knows no figures: `display` shows those of an upload, `bench.live` those of a measurement.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import Literal, Never

from tqdm import tqdm

from bulkstow.printing import shown
from bulkstow.progress.background import Stream

WIDEST_COLUMNS = 100
"""Longer lines are hard to read."""

DisplayKind = Literal["auto", "bar", "log", "none"]


def screen(kind: DisplayKind, stream: Stream) -> Panel | Log | None:
    """Return what the user chose to show progress on; `auto` asks whether there is a terminal that can be drawn on."""
    match kind:
        case "auto":
            can_draw = stream.isatty() and os.environ.get("TERM") != "dumb"
            return Panel(stream) if can_draw else Log(stream)
        case "bar":
            return Panel(stream)
        case "log":
            return Log(stream)
        case "none":
            return None


class Log:
    """Writes lines with the time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Write a line."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._stream.write(f"{now} {shown(text)}\n")
        self._stream.flush()


class Panel:
    """Draws a bar, or none, with lines below it, as many as they need: none is cut off, however narrow the terminal.

    A frame is one write. Between frames the cursor stands at the beginning of the panel: what the terminal does to the
    lines when it becomes narrower happens below the cursor, and is erased.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._canvas = _Canvas(stream)
        self._drawn: list[tqdm[Never]] = []
        """The first line, with its bar, and those below it."""
        self._columns = 0
        tqdm.monitor_interval = 0  # we refresh by ourselves: no thread of its own

    def draw(self, parts: Sequence[str], *, bar: tuple[str, int, int] | None = None) -> None:
        """Draw everything anew: a bar's label, total and done, and below it the parts, with commas between them."""
        self._draw(parts, bar)
        self._canvas.write("\r")
        self._put()

    def say(self, text: str) -> None:
        """Write a line above the panel."""
        tqdm.write(shown(text), file=self._canvas)
        self._canvas.write("\r" if self._drawn else "")
        self._put()

    def close(self, parts: Sequence[str] = (), *, bar: tuple[str, int, int] | None = None) -> None:
        """Draw everything for the last time and leave it there; without anything, erase the panel."""
        last: list[str] = []
        if parts or bar:
            self._draw(parts, bar)
            first, *texts = self._drawn
            last = [str(first), *(text.desc for text in texts if text.desc)]
        self._erase()
        self._canvas.write("".join(f"{line}\n" for line in last))
        self._put()

    def _draw(self, parts: Sequence[str], bar: tuple[str, int, int] | None) -> None:
        columns = min(_columns(self._stream) - 1, WIDEST_COLUMNS)
        if columns != self._columns:
            self._erase()
        self._columns = columns
        lines = packed(parts, columns)
        if bar is not None:
            lines.insert(0, bar[0])
        while len(self._drawn) < len(lines):
            has_bar = bar is not None and not self._drawn
            self._drawn.append(self._added(len(self._drawn), has_bar=has_bar))
        if bar is not None:
            _, self._drawn[0].total, self._drawn[0].n = bar
        for number, drawn in enumerate(self._drawn):
            drawn.set_description_str(lines[number] if number < len(lines) else "", refresh=True)

    def _added(self, position: int, *, has_bar: bool) -> tqdm[Never]:
        """Return a line, which tqdm does not draw yet."""
        bar_format = "{desc} |{bar}| {percentage:3.0f}%" if has_bar else "{desc}"
        return tqdm(
            bar_format=bar_format,
            file=self._canvas,
            ncols=self._columns,
            position=position,
            leave=False,
            total=1,
            delay=1,
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


def _columns(stream: Stream) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal, or none any more
        return 80
