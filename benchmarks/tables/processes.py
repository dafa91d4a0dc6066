"""Several processes: what they gain on this machine, and what an instance costs with more of them."""

from __future__ import annotations

import statistics

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import MR, corpus
from benchmarks.measure import Figures, Goal, Table
from benchmarks.processes import sink

PROCESSES = ("1", "2", "5", "auto")
"""This one alone, with one sender, with four, and as bulkstow chooses."""

ONE_SENDER, FOUR_SENDERS = "2", "5"

AT_MOST = 1.1
"""Processor time of an instance with four senders, as a multiple of that with one: the issue's."""

NOTES = [
    "CPU is user and system time of all processes of a run. CPU per instance is behind the start: less what the same",
    "number of processes takes for a single file. It does not depend on the number of cores, unlike the wall time.",
]


def processes(bench: Bench) -> Table:
    """Return the table of numbers of processes."""
    archive, one_file = bench.corpus(MR, 1.0), corpus(MR, bench.corpora, 1 / MR.files)
    compared = {number: peers.bulkstow("--processes", number) for number in PROCESSES}
    with sink() as server:
        starts = bench.compare(compared, one_file, server)
        figures = bench.compare(compared, archive, server)
    costs_us = {number: _costs_us(figures[number], starts[number], archive.files) for number in PROCESSES}
    rows = [
        (
            number,
            f"{found.wall_s:.2f}",
            found.spread,
            f"{archive.files / found.wall_s:,.0f}",
            f"{found.cpu_s:.2f}",
            f"{starts[number].cpu_s:.2f}",
            f"{statistics.median(costs_us[number]):.0f}",
        )
        for number, found in figures.items()
    ]
    ratio = statistics.median(
        four / one for four, one in zip(costs_us[FOUR_SENDERS], costs_us[ONE_SENDER], strict=True)
    )
    goal = Goal(f"an instance costs with 4 senders <= {AT_MOST:g} x with 1", f"{ratio:.2f} x", ratio <= AT_MOST)
    columns = ("processes", "wall s", "min-max", "instances/s", "CPU s", "CPU s of 1 file", "CPU us/instance")
    title = f"Processes: {archive.files:,} MR slices, {archive.size_bytes / 1e9:.2f} GB, plain HTTP"
    return Table(title, columns, rows, [goal], NOTES, {number: found.samples for number, found in figures.items()})


def _costs_us(whole: Figures, start: Figures, files: int) -> list[float]:
    """Return the processor time of an instance behind the start, in each turn."""
    return [(sample.cpu_s - start.cpu_s) / (files - 1) * 1e6 for sample in whole.samples]
