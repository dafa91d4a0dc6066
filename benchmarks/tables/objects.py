"""An object store as the source: from moto's S3 server, and from a fast one; and the memory for many objects.

The bound is obstore alone, which reads as many objects at once as bulkstow does, and does nothing with them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks import peers, processes
from benchmarks.bench import Bench
from benchmarks.corpus import CT, Corpus, Kind
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.object_server import BUCKET, LOGIN, object_server
from benchmarks.processes import Sample, Server, measured

SLICES = Kind(CT.name, files=2_000, rows=CT.rows, columns=CT.columns, per_study=CT.per_study)

AT_ONCE = 32
"""Objects that are read at once, as many as bulkstow reads by default."""

OBJECTS = 1_000_000
MEMORY_GROWTH_BYTES = 10e6
"""The growth of the peak from a tenth of the objects to all of them that counts as flat: 10 bytes an object."""

_COLUMNS = ("work", "wall s", "min-max", "objects/s", "MB/s", "CPU s", "peak MB")


def objects(bench: Bench) -> Table:
    """Return the table of object stores as the source."""
    os.environ.update(LOGIN)
    archive = bench.corpus(SLICES, 1.0)
    figures: dict[str, Figures] = {}
    goals = []
    for kind, text in (("moto", "moto"), ("fast", "a fast store")):
        reads, sends = f"{text}: obstore alone, {AT_ONCE} at once", f"{text}: upload to the sink"
        with object_server(kind, str(archive.directory)) as endpoint, processes.sink() as server:
            works = {
                reads: lambda: measured([sys.executable, "-m", "benchmarks.read_objects", endpoint, str(AT_ONCE)]),
                sends: lambda: bench.run(_upload(endpoint), archive, server),
            }
            figures |= {name: Figures(samples) for name, samples in take_turns(works, bench.repeats_of(3)).items()}
        share = 1 / ratio(figures[sends], figures[reads])
        goals.append(Goal(f"{text}: >= 0.8 x obstore alone", f"{share:.2f} x", share >= 0.8))
    rows = [_row(name, found, archive.files, archive.size_bytes) for name, found in figures.items()]
    count = max(10_000, round(OBJECTS * bench.scale_of(1.0)))
    peaks: list[Figures] = []
    for listed in (count // 10, count):
        found = Figures([_listed(bench, listed)])
        peaks.append(found)
        figures[f"{listed:,} objects"] = found
        rows.append(_row(f"{listed:,} objects listed, none selected", found, listed, None))
    growth_bytes = peaks[1].rss_bytes - peaks[0].rss_bytes
    goals.append(
        Goal(f"{count:,} objects: memory flat", f"{growth_bytes / 1e6:+.0f} MB", growth_bytes <= MEMORY_GROWTH_BYTES)
    )
    notes = [f"{archive.files:,} CT slices, {archive.size_bytes / 1e9:.2f} GB, from and to servers on this machine."]
    samples = {name: found.samples for name, found in figures.items()}
    return Table("An object store as the source", _COLUMNS, rows, goals, notes, samples)


def _upload(endpoint: str, *options: str) -> peers.Peer:
    def command(_archive: Corpus, server: Server, scratch: Path) -> list[str]:
        words = ["--url", server.url, "--ledger", str(scratch / "ledger.db"), "--progress", "none"]
        source = [f"s3://{BUCKET}", "--source-endpoint", endpoint, "--source-region", "us-east-1"]
        return [sys.executable, "-m", "bulkstow", "upload", *source, *words, *options]

    return command


def _listed(bench: Bench, count: int) -> Sample:
    """Scan so many objects, all of which a filter leaves out."""
    with (
        tempfile.TemporaryDirectory(dir=bench.scratch) as scratch,
        object_server("made", str(count)) as endpoint,
        processes.sink() as server,
    ):
        return measured(_upload(endpoint, "--max-size", "1kB")(Corpus(Path(scratch), count, 0), server, Path(scratch)))


def _row(name: str, found: Figures, count: int, size_bytes: int | None) -> tuple[str, ...]:
    return (
        name,
        f"{found.wall_s:.2f}",
        found.spread,
        f"{count / found.wall_s:,.0f}",
        "" if size_bytes is None else f"{size_bytes / found.wall_s / 1e6:,.0f}",
        f"{found.cpu_s:.2f}",
        f"{found.rss_bytes / 1e6:,.0f}",
    )
