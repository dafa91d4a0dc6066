"""Verification of the instances of many studies by QIDO-RS.

The lower bounds fetch the same answers and do nothing with them: a loop of aiohttp, and curl with a list of URLs.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.archive_uids import instance_uid, series_uid, study_uid
from benchmarks.bench import Bench
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.processes import CHECKOUT, PeerFailed, Sample
from benchmarks.search_servers import SearchServer, filled_orthanc, searchable, served
from benchmarks.verifiers import BULKSTOW, CONCURRENCY, CURL, FEW, LOOP, Run, curl_command, run_at, verify_command

STUDIES, INSTANCES = 400, 500
"""The size of the goal: 200,000 instances in 400 studies."""

ORTHANC_SHARE = 20
"""Orthanc has a twentieth of the studies: it stores some hundred instances a second."""

PAGE = 1_000


def verify(bench: Bench) -> Table:
    """Return the table of the level `instances`: against a fast server, the embedded one, and Orthanc."""
    studies = max(1, round(STUDIES * bench.scale_of(1.0)))
    few = max(1, studies // ORTHANC_SHARE)
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    samples: dict[str, list[Sample]] = {}
    directory = _tree_of_names(bench, studies)
    places = (
        _Place("fast server", studies, lambda: searchable(studies, INSTANCES, PAGE), _flat),
        _Place("embedded", studies, lambda: served(directory), _flat),
        _Place("Orthanc", few, lambda: filled_orthanc(bench.scratch, few, INSTANCES), _bounded_by_server),
    )
    for place in places:
        try:
            with place.serving() as server, tempfile.TemporaryDirectory(dir=bench.scratch) as own:
                taken = _take_turns_at(bench, server, place.studies, Path(own))
        except PeerFailed as failure:
            print(f"{place.name}: {failure}", file=sys.stderr)
            continue
        figures = {name: Figures([run.sample for run in several]) for name, several in taken.items()}
        samples |= {f"{place.name}: {name}": found.samples for name, found in figures.items()}
        rows += [_row(f"{place.name}: {name}", found, taken[name], figures[LOOP]) for name, found in figures.items()]
        goal = place.goal(figures)
        goals.append(replace(goal, text=f"{place.name}: {goal.text}"))
    columns = (
        "server: peer",
        "wall s",
        "min-max",
        "instances/s",
        "CPU s",
        "CPU us/instance",
        "server CPU s",
        "requests",
        "under way",
        "peak MB",
        "x loop",
    )
    title = f"verify --level instances: {studies * INSTANCES:,} instances in {studies} studies; Orthanc: {few} studies"
    notes = [
        f"{CONCURRENCY} requests at once. The loop and curl fetch one page of each study and do not parse it.",
        "Times are of whole processes: bulkstow's includes its start, the ledger, and the record of the results.",
        "Under way: the share of the run in which bulkstow had a request under way.",
    ]
    return Table(title, columns, rows, goals, notes, samples)


@dataclass(frozen=True, slots=True)
class _Place:
    """A server, and how many studies it has."""

    name: str
    studies: int
    serving: Callable[[], AbstractContextManager[SearchServer]]
    goal: Callable[[Mapping[str, Figures]], Goal]


def _flat(figures: Mapping[str, Figures]) -> Goal:
    flat = figures[BULKSTOW].rss_bytes / figures[FEW].rss_bytes
    return Goal("peak of memory <= 1.1 x that of a tenth", f"{flat:.2f} x", flat <= 1.1)


def _bounded_by_server(figures: Mapping[str, Figures]) -> Goal:
    times = ratio(figures[BULKSTOW], figures[LOOP])
    return Goal("<= 1.5 x the aiohttp loop", f"{times:.2f} x", times <= 1.5)


def _take_turns_at(bench: Bench, server: SearchServer, studies: int, own: Path) -> dict[str, list[Run]]:
    urls, config = own / "urls", own / "curl"
    wanted = [f"{server.url}/studies/{study_uid(n)}/instances?limit={PAGE}&offset=0" for n in range(studies)]
    urls.write_text("\n".join(wanted))
    config.write_text("".join(f'url = "{url}"\noutput = /dev/null\n' for url in wanted))
    ledgers = {BULKSTOW: own / "all.db", FEW: own / "few.db"}
    for name, ledger in ledgers.items():
        count = studies if name == BULKSTOW else max(1, studies // 10)
        words = [str(ledger), server.url, str(count), str(INSTANCES)]
        subprocess.run([sys.executable, "-m", "benchmarks.made_ledger", *words], check=True, cwd=CHECKOUT)

    def verified(name: str) -> Callable[[], Run]:
        def run() -> Run:
            ledger, summary = own / "ledger.db", own / "summary.json"
            shutil.copyfile(ledgers[name], ledger)
            command = verify_command(server.url, ledger, "--level", "instances", "--summary", str(summary))
            instances = (studies if name == BULKSTOW else max(1, studies // 10)) * INSTANCES
            return run_at(command, server, instances, summary)

        return run

    def fetched(command: Sequence[str]) -> Callable[[], Run]:
        return lambda: run_at(command, server, studies * INSTANCES)

    peers = {name: verified(name) for name in ledgers}
    peers[LOOP] = fetched([sys.executable, "-m", "benchmarks.fetch", str(urls), str(CONCURRENCY)])
    peers[CURL] = fetched(curl_command(config, "application/dicom+json"))
    return take_turns(peers, bench.repeats)


def _row(name: str, found: Figures, runs: Sequence[Run], loop: Figures) -> tuple[str, ...]:
    return (
        name,
        f"{found.wall_s:.2f}",
        found.spread,
        f"{runs[0].instances / found.wall_s:,.0f}",
        f"{found.cpu_s:.2f}",
        f"{found.cpu_s / runs[0].instances * 1e6:.1f}",
        f"{found.server_cpu_s:.2f}",
        "" if runs[0].requests is None else f"{runs[0].requests:,}",
        "" if runs[0].under_way is None else f"{statistics.median(run.under_way or 0 for run in runs):.0%}",
        f"{found.rss_bytes / 1e6:,.0f}",
        f"{ratio(found, loop):.2f}",
    )


def _tree_of_names(bench: Bench, studies: int) -> Path:
    """Return a directory of the embedded server: empty files whose names are the UIDs."""
    directory = bench.corpora / f"names-{studies}x{INSTANCES}"
    if not directory.exists():
        unfinished = directory.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        for study in range(studies):
            series = unfinished / study_uid(study) / series_uid(study)
            series.mkdir(parents=True)
            for number in range(INSTANCES):
                (series / f"{instance_uid(study, number)}.dcm").touch()
        unfinished.rename(directory)
    return directory
