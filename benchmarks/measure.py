"""Turns, medians and tables.

Owns how samples are taken (turn by turn, so that whatever else the machine does meets everyone) and how they are shown.
Knows no peer and no goal.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from benchmarks.processes import Sample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Goal:
    """What is aimed at, what it came to, and whether that is good enough."""

    text: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Table:
    """What one command prints; `samples` is all that was measured, for `--json`."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: Mapping[str, Any] = field(default_factory=dict)

    def shown(self) -> str:
        """Return the table as lines of Markdown, which line up on a terminal too."""
        lines = [f"## {self.title}", "", *lined_up(self.columns, self.rows)]
        lines += ["", *self.notes] if self.notes else []
        lines += [""] if self.goals else []
        lines += [f"{'holds' if goal.holds else 'MISSED'}: {goal.text}: {goal.found}" for goal in self.goals]
        return "\n".join(lines)


def lined_up(columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> list[str]:
    """Return a table of Markdown, line by line; the first `words` columns are words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return [_line(cells, widths, words) for cells in lines]


def _line(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    sized = list(zip(cells, widths, strict=True))
    padded = [f"{cell:<{width}}" for cell, width in sized[:words]] + [
        f"{cell:>{width}}" for cell, width in sized[words:]
    ]
    return f"| {' | '.join(padded)} |"


def take_turns(peers: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Run every peer `repeats` times: A B C, C B A, A B C, and return their samples."""
    samples: dict[str, list[T]] = {name: [] for name in peers}
    for repeat in range(repeats):
        for name in list(peers)[:: 1 if repeat % 2 == 0 else -1]:
            print(f"\r\033[K{repeat + 1}/{repeats} {name}", end="", file=sys.stderr, flush=True)
            samples[name].append(peers[name]())
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return samples


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one peer's samples."""

    samples: list[Sample]

    @property
    def wall_s(self) -> float:
        """Median time from exec to exit."""
        return statistics.median(sample.wall_s for sample in self.samples)

    @property
    def cpu_s(self) -> float:
        """Median processor time."""
        return statistics.median(sample.cpu_s for sample in self.samples)

    @property
    def server_cpu_s(self) -> float:
        """Median processor time of the sink meanwhile."""
        return statistics.median(sample.server_cpu_s for sample in self.samples)

    @property
    def rss_bytes(self) -> int:
        """The largest peak."""
        return max(sample.rss_bytes for sample in self.samples)

    @property
    def spread(self) -> str:
        """Shortest and longest time."""
        walls_s = [sample.wall_s for sample in self.samples]
        return f"{min(walls_s):.2f}-{max(walls_s):.2f}"


def ratio(ours: Figures, theirs: Figures) -> float:
    """Return our time as a multiple of theirs: the median over turns, as turns share the machine's mood."""
    return statistics.median(
        mine.wall_s / other.wall_s for mine, other in zip(ours.samples, theirs.samples, strict=True)
    )


def cpu_ratio(ours: Figures, theirs: Figures) -> float:
    """Return our processor time, that of all our processes, as a multiple of theirs, as `ratio` does."""
    return statistics.median(mine.cpu_s / other.cpu_s for mine, other in zip(ours.samples, theirs.samples, strict=True))
