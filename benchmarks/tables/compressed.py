"""Compressed archives against the program that decompresses them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, Corpus
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.packed import compressed_tar
from benchmarks.processes import Sample, Server, measured, sink
from bulkstow.quantities import parse_size_bytes

GZIP = "gzip -dc"
DEFAULT_SPOOL, SMALL_SPOOL = "2GiB", "64MiB"
"""The default of `--spool-bytes`, and one that holds four steps of staging."""

OF_GZIP = 0.8
"""The goal for the speed of an upload, as a multiple of that of gzip."""

INTERVAL_S = 0.02
"""Time between two measurements of the spool."""

COLUMNS = ("archive", "work", "wall s", "min-max", "MB/s", "CPU s", "peak MB", "spool MB", "x gzip's speed")
NOTES = ["Spool: the sizes of the files without a name that the processes have open, at most, looked at every 20 ms."]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one peer."""

    sample: Sample
    spool_bytes: int
    """The most that it had in the spool."""


def compressed(bench: Bench) -> Table:
    """Return how fast compressed tar archives are sent, and how much of them is in the spool."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    taken: dict[str, list[Run]] = {}
    with sink() as server:
        for kind, default_scale in ((CT, 0.15), (MR, 0.5)):
            archive = compressed_tar(kind, bench.corpora, bench.scale_of(default_scale))
            runs = take_turns(_peers(bench, archive, server), bench.repeats)
            rows += _rows(archive, runs)
            goals += _goals(archive, runs)
            taken |= {f"{archive.directory.name}, {name}": several for name, several in runs.items()}
    return Table("Compressed archives", COLUMNS, rows, goals, NOTES, taken)


def _peers(bench: Bench, archive: Corpus, server: Server) -> dict[str, Callable[[], Run]]:
    def send(spool: str) -> Run:
        with _spool_watched() as most:
            sample = bench.run(peers.bulkstow("--spool-bytes", spool), archive, server)
        return Run(sample, most[0])

    return {
        GZIP: lambda: Run(measured(["gzip", "-dc", str(archive.directory)]), 0),
        DEFAULT_SPOOL: lambda: send(DEFAULT_SPOOL),
        SMALL_SPOOL: lambda: send(SMALL_SPOOL),
    }


def _rows(archive: Corpus, runs: Mapping[str, list[Run]]) -> Iterator[tuple[str, ...]]:
    figures = {name: Figures([run.sample for run in several]) for name, several in runs.items()}
    for name, found in figures.items():
        yield (
            f"{archive.directory.name}, {archive.size_bytes / archive.files / 1000:.0f} kB each",
            name if name == GZIP else f"bulkstow, spool of {name}",
            f"{found.wall_s:.2f}",
            found.spread,
            f"{archive.size_bytes / found.wall_s / 1e6:,.0f}",
            f"{found.cpu_s:.2f}",
            f"{found.rss_bytes / 1e6:.0f}",
            f"{max(run.spool_bytes for run in runs[name]) / 1e6:.0f}",
            f"{1 / ratio(found, figures[GZIP]):.2f}",
        )


def _goals(archive: Corpus, runs: Mapping[str, list[Run]]) -> Iterator[Goal]:
    figures = {name: Figures([run.sample for run in several]) for name, several in runs.items()}
    name = archive.directory.name
    if name.startswith(CT.name):
        speed = 1 / ratio(figures[DEFAULT_SPOOL], figures[GZIP])
        yield Goal(f"{name}: >= 0.8 x gzip -dc", f"{speed:.2f} x", speed >= OF_GZIP)
    for spool in (DEFAULT_SPOOL, SMALL_SPOOL):
        most_bytes = max(run.spool_bytes for run in runs[spool])
        holds = most_bytes <= parse_size_bytes(spool)
        yield Goal(f"{name}: never more than {spool} in the spool", f"{most_bytes / 2**20:.0f} MiB", holds)


@contextmanager
def _spool_watched() -> Iterator[list[int]]:
    """Give a list with the largest total size of unnamed files that this process's descendants have had."""
    most = [0]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(INTERVAL_S):
            files = {inode: size for pid in _descendants(os.getpid()) for inode, size in _unnamed_files(pid)}
            most[0] = max(most[0], sum(files.values()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                yield child
                yield from _descendants(child)


def _unnamed_files(pid: int) -> Iterator[tuple[int, int]]:
    """Yield inode and size of the spool's files, in memory or deleted, that a process has open."""
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                name = str(descriptor.readlink())
                if name.startswith("/memfd:bulkstow") or "/#" in name:
                    status = descriptor.stat()
                    yield status.st_ino, status.st_size
