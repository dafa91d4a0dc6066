"""A plan of an archive against the scan and the heads of an upload, each as a process of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.corpus import TINY, Corpus
from benchmarks.measure import Figures, Goal, Table, cpu_ratio, ratio, take_turns
from benchmarks.processes import Sample, measured

PLAN, READING = "bulkstow plan", "scan and heads of upload"
MOST = 1.2
"""The goal: the highest cost of a plan, as a multiple of the scan and the heads."""


def plan(bench: Bench) -> Table:
    """Return the table of a plan of many small files, and compare its memory with a plan of a tenth of the files."""
    archive, tenth = bench.corpus(TINY, 1.0), bench.tenth(TINY, 1.0)
    few = f"{PLAN}, a tenth"
    peers = {PLAN: _planned(archive), few: _planned(tenth), READING: _read(archive, bench.scratch)}
    figures = {name: Figures(samples) for name, samples in take_turns(peers, bench.repeats).items()}
    wall, cpu = ratio(figures[PLAN], figures[READING]), cpu_ratio(figures[PLAN], figures[READING])
    flat = figures[PLAN].rss_bytes / figures[few].rss_bytes
    goals = [
        Goal(f"plan <= {MOST} x scan and heads of upload", f"{wall:.2f} x", wall <= MOST),
        Goal(f"its processor time <= {MOST} x scan and heads of upload", f"{cpu:.2f} x", cpu <= MOST),
        Goal("peak of memory <= 1.1 x that of a tenth", f"{flat:.2f} x", flat <= 1.1),
    ]
    rows = [
        (
            name,
            f"{found.wall_s:.2f}",
            found.spread,
            f"{(tenth if name == few else archive).files / found.wall_s:,.0f}",
            f"{found.cpu_s:.2f}",
            f"{found.rss_bytes / 1e6:,.0f}",
        )
        for name, found in figures.items()
    ]
    columns = ("peer", "wall s", "min-max", "files/s", "CPU s", "peak MB")
    notes = ["Scan and heads are the stages of upload, with a new ledger; their instances are counted, not sent."]
    samples = {name: found.samples for name, found in figures.items()}
    return Table(f"plan: {archive.files:,} files", columns, rows, goals, notes, samples)


def _planned(archive: Corpus) -> Callable[[], Sample]:
    command = [sys.executable, "-m", "bulkstow", "plan", str(archive.directory), "--progress", "none"]
    return lambda: measured(command)


def _read(archive: Corpus, scratch: Path) -> Callable[[], Sample]:
    def run() -> Sample:
        with tempfile.TemporaryDirectory(dir=scratch) as own:
            ledger = str(Path(own) / "ledger.db")
            return measured([sys.executable, "-m", "benchmarks.scan_and_heads", str(archive.directory), ledger])

    return run
