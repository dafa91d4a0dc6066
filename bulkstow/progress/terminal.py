"""Output of progress: a panel that is redrawn on a terminal, or lines with the time.

It contains no figures: `display` shows those of an upload, `bench.live` those of a measurement.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Literal, Never

from bulkstow.printing import shown
from bulkstow.progress.background import Stream

if TYPE_CHECKING:
    from tqdm import tqdm

WIDEST_COLUMNS = 100
"""The widest panel, in columns; longer lines are hard to read."""

DisplayKind = Literal["auto", "bar", "log", "none"]


def screen(kind: DisplayKind, stream: Stream) -> Panel | TimedLines | None:
    """Return the output that the user chose; `auto` is a panel if the terminal can move its cursor."""
    match kind:
        case "auto":
            can_draw = stream.isatty() and os.environ.get("TERM") != "dumb"
            return Panel(stream) if can_draw else TimedLines(stream)
        case "bar":
            return Panel(stream)
        case "log":
            return TimedLines(stream)
        case "none":
            return None


class TimedLines:
    """Writes lines with the time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Write a line."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._stream.write(f"{now} {shown(text)}\n")
        self._stream.flush()


class Panel:
    """Draws an optional bar, and below it all parts, on as many lines as the terminal's width requires.

    A frame is one write. Between frames the cursor is at the beginning of the panel, so if the terminal becomes
    narrower and wraps the lines, they are all below the cursor and can be erased.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._canvas = _Canvas(stream)
        self._drawn: list[tqdm[Never]] = []
        """The first line, with the bar if there is one, and the lines below it."""
        self._columns = 0
        self._tqdm = _tqdm()
        self._tqdm.monitor_interval = 0  # no thread: every frame is drawn by `draw`

    def draw(self, parts: Sequence[str], *, bar: tuple[str, int, int] | None = None) -> None:
        """Draw a frame: a bar with its label, total and done, and below it the parts, joined by commas."""
        self._draw(parts, bar)
        self._canvas.write("\r")
        self._put()

    def say(self, text: str) -> None:
        """Write a line above the panel."""
        self._tqdm.write(shown(text), file=self._canvas)
        self._canvas.write("\r" if self._drawn else "")
        self._put()

    def close(self, parts: Sequence[str] = (), *, bar: tuple[str, int, int] | None = None) -> None:
        """Draw the final frame and leave it on the screen; erase the panel if there is neither a part nor a bar."""
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
        """Return a new line, which tqdm does not draw yet."""
        bar_format = "{desc} |{bar}| {percentage:3.0f}%" if has_bar else "{desc}"
        return self._tqdm(
            bar_format=bar_format,
            file=self._canvas,
            ncols=self._columns,
            position=position,
            leave=False,
            total=1,
            delay=1,
        )

    def _erase(self) -> None:
        """Erase all lines by an escape sequence; tqdm writes spaces instead, which a narrower terminal wraps."""
        if self._drawn:
            for drawn in self._drawn:
                drawn.close()
            self._drawn = []
            self._canvas.take()
            self._canvas.write("\r\x1b[J")

    def _put(self) -> None:
        self._stream.write(self._canvas.take())
        self._stream.flush()


def _tqdm() -> type[tqdm[Never]]:
    """Return the library's bar, which only a terminal needs."""
    from tqdm import tqdm

    return tqdm


class _Canvas(io.StringIO):
    """Collects the text that tqdm draws."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding, which tells tqdm whether it can draw with block characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def take(self) -> str:
        """Return the text drawn since the last call."""
        drawn = self.getvalue()
        self.seek(0)
        self.truncate()
        return drawn


def packed(parts: Sequence[str], columns: int) -> list[str]:
    """Join parts by commas into lines of at most `columns` columns; only a part longer than a line is broken."""
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
    except (OSError, ValueError):  # no terminal, or it was closed
        return 80
