"""Another DICOMweb server as the source: from one Orthanc into another, and the memory for many studies.

The bounds are each half alone: a loop of aiohttp that fetches the same series and does nothing with them, and an upload
of the same slices as files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import peers, processes
from benchmarks.bench import Bench
from benchmarks.corpus import CT, Corpus, Kind, header_of
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.processes import PeerFailed, Sample, Server, measured
from benchmarks.search_servers import cpu_s, served
from benchmarks.tables.content import DICOM
from bulkstow.wire.synthetic import part10

SLICES = Kind(CT.name, files=2_000, rows=CT.rows, columns=CT.columns, per_study=CT.per_study)
MOVE, READ, WRITE = "Orthanc to Orthanc", "reading alone: aiohttp loop", "writing alone: the files"

AT_ONCE = 8
"""Requests of the loop that reads, as many as bulkstow makes at the source by default."""

STUDIES = 20_000
INSTANCE_ROWS = 16
MEMORY_GROWTH_BYTES = 10e6
"""The growth of the peak from a tenth of the studies to all of them that counts as flat: 500 bytes a study."""

_COLUMNS = ("work", "wall s", "min-max", "instances/s", "MB/s", "CPU s", "servers' CPU s", "peak MB")


def dicomweb(bench: Bench) -> Table:
    """Return the table of a DICOMweb server as the source."""
    archive = bench.corpus(SLICES, 1.0)
    figures = _move(bench, archive)
    slower = max((READ, WRITE), key=lambda name: figures[name].wall_s)
    of_slower = 1 / ratio(figures[MOVE], figures[slower])
    goals = [Goal(f">= 0.9 x the slower half ({slower})", f"{of_slower:.2f} x", of_slower >= 0.9)]
    rows = [_row(name, found, archive.files, archive.size_bytes) for name, found in figures.items()]
    studies = max(10, round(STUDIES * bench.scale_of(1.0)))
    peaks: list[Figures] = []
    for count in (studies // 10, studies):
        found = _studies(bench, count)
        peaks.append(found)
        figures[f"{count:,} studies"] = found
        rows.append(_row(f"{count:,} studies of one small instance, embedded servers", found, count, None))
    growth_bytes = peaks[1].rss_bytes - peaks[0].rss_bytes
    holds = growth_bytes <= MEMORY_GROWTH_BYTES
    goals.append(Goal(f"{studies:,} studies: memory flat", f"{growth_bytes / 1e6:+.0f} MB", holds))
    halves_s = sum(figures[half].cpu_s + figures[half].server_cpu_s for half in (READ, WRITE))
    cores = os.cpu_count() or 1
    bound = figures[slower].wall_s * cores / halves_s
    notes = [
        f"{archive.files:,} CT slices, {archive.size_bytes / 1e9:.2f} GB; a fresh Orthanc takes them in every run.",
        f"Both halves take {halves_s:.1f} s of processor time, so {cores} idle cores reach at most {bound:.2f} x.",
    ]
    samples = {name: found.samples for name, found in figures.items()}
    return Table("Another DICOMweb server as the source", _COLUMNS, rows, goals, notes, samples)


def _move(bench: Bench, archive: Corpus) -> dict[str, Figures]:
    """Measure the move between two Orthancs, and each half of it."""
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.scratch)))
        source = stack.enter_context(processes.orthanc(own))
        bench.run(peers.bulkstow(), archive, source)
        series = {f"{h.study_uid}/series/{h.series_uid}" for h in (header_of(SLICES, n) for n in range(archive.files))}
        (own / "urls").write_text("\n".join(f"{source.url}/studies/{path}" for path in sorted(series)))
        loop = [sys.executable, "-m", "benchmarks.fetch", str(own / "urls"), str(AT_ONCE), DICOM]
        works: dict[str, Callable[[], Sample]] = {
            READ: lambda: _with_cpu_of(source, lambda: measured(loop)),
            WRITE: lambda: _into_orthanc(bench, archive, None),
            MOVE: lambda: _with_cpu_of(source, lambda: _into_orthanc(bench, archive, source)),
        }
        taken = take_turns(works, bench.repeats_of(3))
    return {name: Figures(samples) for name, samples in taken.items()}


def _into_orthanc(bench: Bench, archive: Corpus, source: Server | None) -> Sample:
    """Upload the files of the archive, or their instances from another server, to a fresh Orthanc."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as own, processes.orthanc(Path(own)) as server:
        peer = peers.bulkstow() if source is None else _from(source.url)
        return _with_cpu_of(server, lambda: bench.run(peer, archive, server))


def _with_cpu_of(server: Server, work: Callable[[], Sample]) -> Sample:
    """Add the processor time of an Orthanc to that of a work."""
    before_s = cpu_s(server.pid)
    sample = work()
    return replace(sample, server_cpu_s=sample.server_cpu_s + cpu_s(server.pid) - before_s)


def _from(url: str) -> peers.Peer:
    def command(_archive: Corpus, server: Server, scratch: Path) -> list[str]:
        options = ["--url", server.url, "--ledger", str(scratch / "ledger.db"), "--progress", "none"]
        return [sys.executable, "-m", "bulkstow", "upload", f"dicomweb+{url}", *options]

    return command


def _studies(bench: Bench, count: int) -> Figures:
    """Upload so many studies of one small instance, from an embedded server to the sink."""
    kind = Kind("one", files=count, rows=INSTANCE_ROWS, columns=INSTANCE_ROWS, per_study=1)
    with tempfile.TemporaryDirectory(dir=bench.scratch) as scratch:
        stored = Path(scratch) / "stored"
        for number in range(count):
            header = header_of(kind, number)
            series = stored / header.study_uid / header.series_uid
            series.mkdir(parents=True)
            content = part10(header, rows=INSTANCE_ROWS, columns=INSTANCE_ROWS, number=number)
            (series / f"{header.sop_instance_uid}.dcm").write_bytes(content)
        with served(stored) as source, processes.sink() as server:
            sample = measured(_from(source.url)(Corpus(stored, count, 0), server, Path(scratch)))
            if server.instances() < count:
                raise PeerFailed(f"the sink took {server.instances()} of {count} instances")
    return Figures([sample])


def _row(name: str, found: Figures, instances: int, size_bytes: int | None) -> tuple[str, ...]:
    return (
        name,
        f"{found.wall_s:.2f}",
        found.spread,
        f"{instances / found.wall_s:,.0f}",
        "" if size_bytes is None else f"{size_bytes / found.wall_s / 1e6:,.0f}",
        f"{found.cpu_s:.2f}",
        f"{found.server_cpu_s:.2f}",
        f"{found.rss_bytes / 1e6:,.0f}",
    )
