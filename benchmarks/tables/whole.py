"""Whole processes against the acknowledging sink: throughput, a run with nothing left to do, memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, GIANT, MR, TINY, Corpus
from benchmarks.measure import Figures, Goal, Table, cpu_ratio, ratio, take_turns
from benchmarks.peers import Peer
from benchmarks.processes import Sample, make_certificates, measured, sink

BULKSTOW = "bulkstow"
ONE_CORE = "bulkstow on one core"
CEILING = "(sink's ceiling: sendfile of a ready body)"

CURL_MEMORY_BYTES = 2**30
"""The largest file that curl 7.88 reads into memory: `--data-binary` of a larger one ends with 'out of memory'."""
WITHIN_CURLS_MEMORY = ("curl --data-binary", "shell script")

PEAK_GOAL_BYTES = 150e6

_COLUMNS = ("peer", "wall s", "min-max", "MB/s", "instances/s", "CPU s", "sink CPU s", "peak MB", "x reference")


def ct(bench: Bench) -> Table:
    """Return the table of CT slices."""
    archive = bench.corpus(CT, 0.25)
    compared: dict[str, Peer] = {
        "curl -T": peers.curl_upload,
        BULKSTOW: peers.bulkstow(),
        ONE_CORE: peers.on_one_core(peers.bulkstow()),
        "bulkstow with uvloop": peers.bulkstow_with_uvloop,
        "curl --data-binary": peers.curl_data,
        "shell script": peers.shell_script,
        "dicomweb-client": peers.dicomweb_client,
        CEILING: peers.sendfile,
    }
    if archive.size_bytes > CURL_MEMORY_BYTES:
        compared = {name: peer for name, peer in compared.items() if name not in WITHIN_CURLS_MEMORY}
    with sink() as server:
        figures = bench.compare(compared, archive, server)
    found = ratio(figures[BULKSTOW], figures["curl -T"])
    cpu = cpu_ratio(figures[BULKSTOW], figures["curl -T"])
    goals = [
        Goal("bulkstow <= 1.1 x curl -T", f"{found:.2f} x", found <= 1.1),
        Goal("processor time per GB, all processes, <= 1.25 x curl -T", f"{cpu:.2f} x", cpu <= 1.25),
    ]
    return _table(f"CT: {_sized(archive)}, plain HTTP", figures, "curl -T", archive, goals)


def tls(bench: Bench) -> Table:
    """Return the table of CT slices over TLS."""
    archive = bench.corpus(CT, 0.25)
    compared: dict[str, Peer] = {
        "curl -T": peers.curl_upload,
        BULKSTOW: peers.bulkstow(),
        "bulkstow with uvloop": peers.bulkstow_with_uvloop,
    }
    with sink(tls=make_certificates(bench.scratch)) as server:
        figures = bench.compare(compared, archive, server)
    found = ratio(figures[BULKSTOW], figures["curl -T"])
    cpu = figures[BULKSTOW].cpu_s / figures["curl -T"].cpu_s
    goals = [
        Goal("bulkstow <= 1.1 x curl -T", f"{found:.2f} x", found <= 1.1),
        Goal("its processor time <= 1.25 x curl -T", f"{cpu:.2f} x", cpu <= 1.25),
    ]
    return _table(f"TLS: {_sized(archive)}, HTTPS", figures, "curl -T", archive, goals)


def mr(bench: Bench) -> Table:
    """Return the table of MR slices."""
    archive = bench.corpus(MR, 0.25)
    compared: dict[str, Peer] = {
        BULKSTOW: peers.bulkstow(),
        "bulkstow with uvloop": peers.bulkstow_with_uvloop,
        ONE_CORE: peers.on_one_core(peers.bulkstow()),
        "dicomweb-client": peers.dicomweb_client,
        "shell script": peers.shell_script,
        "curl -T": peers.curl_upload,
        CEILING: peers.sendfile,
    }
    with sink() as server:
        figures = bench.compare(compared, archive, server)
    per_core = archive.files / figures[ONE_CORE].wall_s
    times = 1 / ratio(figures[BULKSTOW], figures["dicomweb-client"])
    goals = [
        Goal(">= 12,000 instances/s, kept to one core", f"{per_core:,.0f}", per_core >= 12_000),
        Goal(">= 18 x dicomweb-client", f"{times:.1f} x", times >= 18),
    ]
    return _table(f"MR: {_sized(archive)}, plain HTTP", figures, "dicomweb-client", archive, goals)


def resume(bench: Bench) -> Table:
    """Return the time of a run that finds everything settled."""
    archive = bench.corpus(TINY, 1.0)
    with sink() as server, tempfile.TemporaryDirectory(dir=bench.scratch) as own:
        command = peers.bulkstow()(archive, server, Path(own))
        first = measured(command)
        taken = server.instances()

        def again() -> Sample:
            return measured(command)

        samples = take_turns({BULKSTOW: again}, bench.repeats)[BULKSTOW]
        sent_again = server.instances() - taken
    figures = {"first run": Figures([first]), "nothing left to do": Figures(samples)}
    rows = [(name, f"{found.wall_s:.2f}", found.spread, f"{found.cpu_s:.2f}") for name, found in figures.items()]
    wall_s = figures["nothing left to do"].wall_s
    limit_s = 2.5 * archive.files / TINY.files
    holds = wall_s <= limit_s and not sent_again
    goal = Goal(f"<= {limit_s:.2g} s (2.5 s for 200,000 files)", f"{wall_s:.2f} s", holds)
    columns = ("run", "wall s", "min-max", "CPU s")
    return Table(f"Resume: {_sized(archive)}", columns, rows, [goal], samples={BULKSTOW: samples})


def memory(bench: Bench) -> Table:
    """Return the peaks of memory: many files, one large one."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    samples: dict[str, list[Sample]] = {}
    for kind in (TINY, GIANT):
        archive = bench.corpus(kind, 1.0)
        with sink() as server:
            figures = bench.compare({BULKSTOW: peers.bulkstow()}, archive, server)[BULKSTOW]
        name = _sized(archive)
        samples[name] = figures.samples
        rows.append((name, f"{figures.wall_s:.2f}", f"{figures.rss_bytes / 1e6:.0f}"))
        holds = figures.rss_bytes <= PEAK_GOAL_BYTES
        goals.append(Goal(f"{name}: peak <= 150 MB", f"{figures.rss_bytes / 1e6:.0f} MB", holds))
    return Table("Memory", ("archive", "wall s", "peak MB"), rows, goals, samples=samples)


def _sized(archive: Corpus) -> str:
    return f"{archive.files:,} files, {archive.size_bytes / 1e9:.2f} GB"


def _table(title: str, figures: Mapping[str, Figures], reference: str, archive: Corpus, goals: list[Goal]) -> Table:
    rows = [
        (
            name,
            f"{found.wall_s:.2f}",
            found.spread,
            f"{archive.size_bytes / found.wall_s / 1e6:,.0f}",
            f"{archive.files / found.wall_s:,.0f}",
            f"{found.cpu_s:.2f}",
            f"{found.server_cpu_s:.2f}",
            f"{found.rss_bytes / 1e6:,.0f}",
            f"{ratio(found, figures[reference]):.2f}",
        )
        for name, found in figures.items()
    ]
    samples = {name: found.samples for name, found in figures.items()}
    return Table(title, _COLUMNS, rows, goals, [f"Reference: {reference}. Medians of whole processes."], samples)
