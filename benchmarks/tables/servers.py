"""A real server: Orthanc, a fresh one for every run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import peers, processes
from benchmarks.bench import Bench
from benchmarks.corpus import CT, Kind
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.peers import Peer
from benchmarks.processes import Sample

FIXED = (1, 2, 4, 8)
"""Requests at once, to compare the default with."""

SLICES = Kind(CT.name, files=2_000, rows=CT.rows, columns=CT.columns, per_study=CT.per_study)
DEFAULT = "bulkstow"

NOTES = [
    "A fresh Orthanc for every run, on the same machine.",
    "dcmsend waits 46 ms for each acknowledgement, whatever its PDU and buffer sizes: DIMSE is one instance at a time.",
]


def orthanc(bench: Bench) -> Table:
    """Return the table of CT slices into Orthanc."""
    archive = bench.corpus(SLICES, 0.5)
    compared: dict[str, Peer] = {f"bulkstow --concurrency {n}": peers.bulkstow("--concurrency", str(n)) for n in FIXED}
    compared |= {
        DEFAULT: peers.bulkstow(),
        "dicomweb-client": peers.dicomweb_client,
        "shell script": peers.shell_script,
        "dcmsend (DIMSE)": peers.dcmsend,
    }

    def runs(peer: Peer) -> Callable[[], Sample]:
        def run() -> Sample:
            with tempfile.TemporaryDirectory(dir=bench.scratch) as own, processes.orthanc(Path(own)) as server:
                return bench.run(peer, archive, server)

        return run

    taken = take_turns({name: runs(peer) for name, peer in compared.items()}, bench.repeats)
    figures = {name: Figures(samples) for name, samples in taken.items()}
    best = min((name for name in figures if "--concurrency" in name), key=lambda name: figures[name].wall_s)
    of_best = ratio(figures[best], figures[DEFAULT])
    client = 1 / ratio(figures[DEFAULT], figures["dicomweb-client"])
    script = 1 / ratio(figures[DEFAULT], figures["shell script"])
    goals = [
        Goal(f"default >= 95 % of the best fixed setting ({best})", f"{of_best:.0%}", of_best >= 0.95),
        Goal(">= 2 x dicomweb-client", f"{client:.1f} x", client >= 2),
        Goal(">= 3 x shell script", f"{script:.1f} x", script >= 3),
    ]
    rows = [
        (
            name,
            f"{found.wall_s:.2f}",
            found.spread,
            f"{archive.files / found.wall_s:,.0f}",
            f"{archive.size_bytes / found.wall_s / 1e6:,.0f}",
            f"{found.cpu_s:.2f}",
            f"{ratio(found, figures[DEFAULT]):.2f}",
        )
        for name, found in figures.items()
    ]
    columns = ("peer", "wall s", "min-max", "instances/s", "MB/s", "CPU s", "x bulkstow")
    samples = {name: found.samples for name, found in figures.items()}
    title = f"Orthanc: {archive.files:,} CT slices, {archive.size_bytes / 1e9:.2f} GB"
    return Table(title, columns, rows, goals, NOTES, samples)
