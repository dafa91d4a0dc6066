"""Zip archives against the same slices as files, and against programs that only inflate them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, Corpus
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.packed import ZIPS, deflated_zips, stored_zips
from benchmarks.processes import Sample, Server, measured, sink

STORED_LIMIT = 1.1
"""The time of stored archives, as a multiple of that of files."""

FILES, ZIP_FILES = "files", f"{ZIPS} zips, stored"
UNZIP, ZIPFILE = "unzip -p", "Python's zipfile"
ONE, TWO, AUTO = "one process", "2 processes", "processes auto"

COLUMNS = ("archive", "work", "wall s", "min-max", "MB/s", "CPU s", "peak MB", "x the first")
NOTES = ["The first of each archive is the measure of the others: a number below 1 is faster."]

_INFLATE = """
import sys, zipfile
for name in sys.argv[1:]:
    with zipfile.ZipFile(name) as archive:
        for member in archive.infolist():
            archive.read(member)
"""


def archives(bench: Bench) -> Table:
    """Return how fast zip archives are sent."""
    with sink() as server:
        files = bench.corpus(CT, 0.25)
        zips = stored_zips(files, bench.corpora)
        stored = _turns(
            bench,
            {
                FILES: lambda: bench.run(peers.bulkstow(), files, server),
                ZIP_FILES: lambda: bench.run(peers.bulkstow(), zips, server),
            },
        )
        packed = deflated_zips(MR, bench.corpora, bench.scale_of(0.25))
        deflated = _turns(bench, _inflating(packed) | _sending(bench, packed, server))
    rows = [*_rows(files, stored), *_rows(packed, deflated)]
    taken = {name: found.samples for name, found in (stored | deflated).items()}
    return Table("Zip archives", COLUMNS, rows, list(_goals(files, packed, stored, deflated)), NOTES, taken)


def _turns(bench: Bench, compared: Mapping[str, Callable[[], Sample]]) -> dict[str, Figures]:
    return {name: Figures(samples) for name, samples in take_turns(compared, bench.repeats).items()}


def _inflating(packed: Corpus) -> dict[str, Callable[[], Sample]]:
    names = sorted(str(path) for path in packed.directory.iterdir())
    every = 'for name; do unzip -p "$name"; done >/dev/null'
    return {
        UNZIP: lambda: measured(["sh", "-c", every, "sh", *names]),
        ZIPFILE: lambda: measured([sys.executable, "-c", _INFLATE, *names]),
    }


def _sending(bench: Bench, packed: Corpus, server: Server) -> dict[str, Callable[[], Sample]]:
    def send(*options: str) -> Callable[[], Sample]:
        return lambda: bench.run(peers.bulkstow(*options), packed, server)

    return {ONE: send("--processes", "1"), TWO: send("--processes", "2"), AUTO: send("--processes", "auto")}


def _rows(archive: Corpus, figures: Mapping[str, Figures]) -> Iterator[tuple[str, ...]]:
    first = next(iter(figures.values()))
    for name, found in figures.items():
        yield (
            f"{archive.files:,} of {archive.size_bytes / archive.files / 1000:.0f} kB",
            name,
            f"{found.wall_s:.2f}",
            found.spread,
            f"{archive.size_bytes / found.wall_s / 1e6:,.0f}",
            f"{found.cpu_s:.2f}",
            f"{found.rss_bytes / 1e6:.0f}",
            f"{ratio(found, first):.2f}",
        )


def _goals(
    files: Corpus, packed: Corpus, stored: Mapping[str, Figures], deflated: Mapping[str, Figures]
) -> Iterator[Goal]:
    times = ratio(stored[ZIP_FILES], stored[FILES])
    text = f"{files.files:,} CT slices in {ZIPS} stored zips: at most {STORED_LIMIT} x the time of files"
    yield Goal(text, f"{times:.2f} x", times <= STORED_LIMIT)
    times = ratio(deflated[ONE], deflated[UNZIP])
    yield Goal(f"{packed.files:,} MR slices in deflated zips: no slower than unzip -p", f"{times:.2f} x", times <= 1)
