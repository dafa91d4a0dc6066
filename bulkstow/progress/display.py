"""Progress on standard error: bars on a terminal, lines elsewhere, or nothing.

A display reads the tally at intervals; the pipeline never waits for it. The figures contain no name or ID of a patient.
"""

from __future__ import annotations

import sys
from typing import Protocol

from bulkstow.progress.background import Stream
from bulkstow.progress.figures import Figures
from bulkstow.progress.tally import Tally
from bulkstow.progress.terminal import DisplayKind, Panel, TimedLines, screen

BAR_INTERVAL_S = 0.2
LINE_INTERVAL_S = 30.0
"""Interval between two lines of figures. A run of one night writes a thousand lines."""


class Display(Protocol):
    """Shows a tally every `interval_s` seconds."""

    interval_s: float

    def show(self, tally: Tally) -> None:
        """Show the figures as they are."""

    def say(self, text: str) -> None:
        """Show a line of text."""

    def close(self, tally: Tally) -> None:
        """Show the final figures, if there are any."""


def display(kind: DisplayKind, stream: Stream | None = None) -> Display:
    """Return the display that the user chose."""
    match screen(kind, stream or sys.stderr):
        case None:
            return Nothing()
        case TimedLines() as lines:
            return Lines(lines)
        case Panel() as panel:
            return Bar(panel)


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
    """Writes the figures as lines of a log."""

    interval_s = LINE_INTERVAL_S

    def __init__(self, lines: TimedLines) -> None:
        self._figures = Figures()
        self._lines = lines
        self._is_waiting = False
        self.say = lines.say

    def show(self, tally: Tally) -> None:
        """Write a line of figures; while a run waits for changes, only the first."""
        line = self._figures.line(tally)
        if not (tally.is_watching and self._is_waiting):
            self.say(line)
        self._is_waiting = tally.is_watching

    def close(self, tally: Tally) -> None:
        """Write a final line, if a file was found or the scan has ended."""
        if tally.has_begun:
            self.say(self._figures.line(tally))


class Bar:
    """Draws a bar, and the figures below it."""

    interval_s = BAR_INTERVAL_S

    def __init__(self, panel: Panel) -> None:
        self._figures = Figures()
        self._panel = panel
        self.say = panel.say

    def show(self, tally: Tally) -> None:
        """Draw a frame."""
        failed, *others = self._figures.of(tally)
        self._panel.draw(others, bar=(failed, *_progress(tally)))

    def close(self, tally: Tally) -> None:
        """Draw the final frame and leave it on the screen; erase it if no file was found and the scan has not ended."""
        if not tally.has_begun:
            self._panel.close()
            return
        failed, *others = self._figures.of(tally)
        self._panel.close(others, bar=(failed, *_progress(tally)))


def _progress(tally: Tally) -> tuple[int, int]:
    """Return the total and how much of it is done, in bytes, or in files if no bytes were found."""
    if tally.found_bytes > 0:
        return tally.found_bytes, min(tally.settled_bytes, tally.found_bytes)
    total = max(tally.found_files, 1)
    return total, min(tally.settled_files, total)
