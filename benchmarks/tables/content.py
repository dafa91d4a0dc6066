"""Verification of content: an archive by WADO-RS, against the embedded server.

The lower bounds fetch the same instances and do nothing with them: a loop of aiohttp, and curl with a list of URLs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, Corpus, Kind, header_of, path_of
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.processes import Sample, measured
from benchmarks.search_servers import served
from benchmarks.verifiers import BULKSTOW, CONCURRENCY, CURL, FEW, LOOP, Run, curl_command, run_at, verify_command

DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def content(bench: Bench) -> Table:
    """Return the table of the level `content`: an archive of CT and one of MR, against the embedded server."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    samples: dict[str, list[Sample]] = {}
    for kind, scale in ((CT, 0.25), (MR, 0.25)):
        archive = bench.corpus(kind, scale)
        figures = _content_of(bench, kind, archive)
        samples |= {f"{kind.name}: {name}": found.samples for name, found in figures.items()}
        rows += [_content_row(f"{kind.name}: {name}", found, archive, figures[CURL]) for name, found in figures.items()]
        times = ratio(figures[BULKSTOW], figures[LOOP])
        goals.append(Goal(f"{kind.name}: <= 1.25 x the aiohttp loop", f"{times:.2f} x", times <= 1.25))
        peak_mb = figures[BULKSTOW].rss_bytes / 1e6
        goals.append(Goal(f"{kind.name}: peak of memory <= 150 MB", f"{peak_mb:.0f} MB", peak_mb <= 150))
    columns = (
        "archive: peer",
        "wall s",
        "min-max",
        "MB/s",
        "instances/s",
        "CPU s",
        "server CPU s",
        "peak MB",
        "x curl",
    )
    title = "verify --level content, against the embedded server"
    notes = [f"{CONCURRENCY} requests at once. All peers fetch whole series; curl and the loop compare nothing."]
    return Table(title, columns, rows, goals, notes, samples)


def _content_of(bench: Bench, kind: Kind, archive: Corpus) -> dict[str, Figures]:
    with (
        tempfile.TemporaryDirectory(dir=bench.corpora) as stored,
        tempfile.TemporaryDirectory(dir=bench.scratch) as scratch,
    ):
        own = Path(scratch)
        series = _link(kind, archive, Path(stored))
        studies = sorted(archive.directory.iterdir())
        with served(Path(stored)) as server:
            wanted = [f"{server.url}/studies/{path}" for path in series]
            (own / "urls").write_text("\n".join(wanted))
            (own / "curl").write_text("".join(f'url = "{url}"\noutput = /dev/null\n' for url in wanted))

            def verified(studies: Sequence[Path]) -> Callable[[], Run]:
                uploaded, ledger = own / f"{len(studies)}.db", own / "ledger.db"
                # The server has these files already, and answers that it has stored them.
                common = ["--url", server.url, "--ledger", str(uploaded), "--progress", "none"]
                measured([sys.executable, "-m", "bulkstow", "upload", *map(str, studies), *common])

                def run() -> Run:
                    shutil.copyfile(uploaded, ledger)
                    instances = len(studies) * kind.per_study
                    return run_at(verify_command(server.url, ledger, "--level", "content"), server, instances)

                return run

            loop = [sys.executable, "-m", "benchmarks.fetch", str(own / "urls"), str(CONCURRENCY), DICOM]
            peers = {
                BULKSTOW: verified(studies),
                FEW: verified(studies[: max(1, len(studies) // 10)]),
                LOOP: lambda: run_at(loop, server, archive.files),
                CURL: lambda: run_at(curl_command(own / "curl", DICOM), server, archive.files),
            }
            taken = take_turns(peers, bench.repeats)
    return {name: Figures([run.sample for run in runs]) for name, runs in taken.items()}


def _link(kind: Kind, archive: Corpus, stored: Path) -> list[str]:
    """Give an archive's files the names of the embedded server, and return the resources of the series."""
    resources: dict[str, None] = {}
    for number in range(archive.files):
        header = header_of(kind, number)
        series = stored / header.study_uid / header.series_uid
        series.mkdir(parents=True, exist_ok=True)
        os.link(archive.directory / path_of(kind, number), series / f"{header.sop_instance_uid}.dcm")
        resources[f"{header.study_uid}/series/{header.series_uid}"] = None
    return list(resources)


def _content_row(name: str, found: Figures, archive: Corpus, curl: Figures) -> tuple[str, ...]:
    share = 0.1 if name.endswith(FEW) else 1.0
    return (
        name,
        f"{found.wall_s:.2f}",
        found.spread,
        f"{share * archive.size_bytes / found.wall_s / 1e6:,.0f}",
        f"{share * archive.files / found.wall_s:,.0f}",
        f"{found.cpu_s:.2f}",
        f"{found.server_cpu_s:.2f}",
        f"{found.rss_bytes / 1e6:,.0f}",
        f"{ratio(found, curl):.2f}",
    )
