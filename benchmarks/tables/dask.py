"""A Dask cluster on this machine: two workers against two sender processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, Kind, corpus
from benchmarks.measure import Figures, Goal, Table, ratio
from benchmarks.processes import CHECKOUT, HOST, START_PATIENCE_S, PeerFailed, sink

WORKERS = 2
PROCESSES, DASK = "--processes 3", "--dask, 2 workers"

AT_LEAST = 0.9
"""Throughput on Dask, as a multiple of that of as many sender processes: the issue's."""

SCALES: tuple[tuple[Kind, float], ...] = ((CT, 1.0), (MR, 4.0))
"""8,000 CT slices, 4.2 GB, and 80,000 MR slices, 2.8 GB: what fits into this machine's memory beside all else."""

_WAIT = """
import os, sys, time
from distributed import Client
file, workers = sys.argv[1:]
while not os.path.exists(file):
    time.sleep(0.02)
with Client(scheduler_file=file) as client:
    client.wait_for_workers(int(workers))
    print(client.scheduler.address)
"""

NOTES = [
    "The scheduler and its workers run before the clock starts. The wall time is that of the command, from exec to",
    "exit; that of one file is its start, in which Dask is imported. CPU is that of the command, without the workers.",
]


def dask(bench: Bench) -> Table:
    """Return the table of Dask against processes."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    samples = {}
    with _cluster(bench.scratch / "dask") as address, sink() as server:
        compared = {PROCESSES: peers.bulkstow("--processes", str(1 + WORKERS)), DASK: peers.bulkstow("--dask", address)}
        for kind, scale in SCALES:
            archive, one_file = bench.corpus(kind, scale), corpus(kind, bench.corpora, 1 / kind.files)
            starts = bench.compare(compared, one_file, server)
            figures = bench.compare(compared, archive, server)
            name = f"{archive.files:,} {kind.name.upper()}, {archive.size_bytes / 1e9:.1f} GB"
            samples[name] = {peer: found.samples for peer, found in figures.items()}
            for peer, found in figures.items():
                rows.append(
                    (
                        f"{name}, {peer}",
                        f"{found.wall_s:.2f}",
                        found.spread,
                        f"{archive.files / found.wall_s:,.0f}",
                        f"{archive.size_bytes / found.wall_s / 1e6:,.0f}",
                        f"{found.cpu_s:.2f}",
                        f"{starts[peer].wall_s:.2f}",
                    )
                )
            goals.append(_goal(name, figures))
    columns = ("archive, senders", "wall s", "min-max", "instances/s", "MB/s", "CPU s", "wall s of 1 file")
    return Table("Dask: two workers against two sender processes, plain HTTP", columns, rows, goals, NOTES, samples)


def _goal(name: str, figures: dict[str, Figures]) -> Goal:
    """Return the goal for an archive: the median over turns, as turns share the machine's mood."""
    times = 1 / ratio(figures[DASK], figures[PROCESSES])
    return Goal(f"{name}: throughput on Dask >= {AT_LEAST:g} x processes", f"{times:.2f} x", times >= AT_LEAST)


@contextmanager
def _cluster(directory: Path) -> Iterator[str]:
    """Give the address of a scheduler with its workers, which end with the block."""
    directory.mkdir()
    address = directory / "address.json"
    with ExitStack() as stack:

        def start(program: str, *words: str) -> None:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *words, "--no-dashboard"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=CHECKOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("dask_scheduler", "--host", HOST, "--port", "0", "--scheduler-file", str(address))
        for _ in range(WORKERS):
            words = ("--scheduler-file", str(address), "--host", HOST, "--nthreads", "1", "--no-nanny")
            start("dask_worker", *words, "--local-directory", str(directory))
        yield _wait_for_workers(address)


def _wait_for_workers(file: Path) -> str:
    """Return the scheduler's address once all workers are connected, which another process finds out."""
    try:
        found = subprocess.run(
            [sys.executable, "-c", _WAIT, str(file), str(WORKERS)],
            capture_output=True,
            check=True,
            text=True,
            timeout=START_PATIENCE_S,
        )
    except subprocess.SubprocessError as error:
        raise PeerFailed(f"the Dask cluster does not start: {error}") from error
    return found.stdout.strip()
