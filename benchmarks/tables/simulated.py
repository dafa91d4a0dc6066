"""Automatic concurrency on simulated servers: each has a knee, and refuses with 503 what goes somewhat beyond it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import Bench, Observed
from benchmarks.corpus import SMALL, Corpus
from benchmarks.measure import Goal, Table, take_turns
from benchmarks.processes import sink

AUTO = "auto"

WITHIN = 0.9
"""Of the best fixed number's goodput: the issue's 10 %."""
REJECTED_SHARE = 0.02
"""Of the requests: the issue's."""

REQUESTS_PER_S = 40
"""What each of the servers can do. A service of 50 ms to 600 ms is what servers take for a small request; at this rate
client and sink use a tenth of a core, so that the servers can be measured side by side."""

SPREAD = 0.3
"""Of the service: without, requests end in bursts of the knee, and whoever counts them sees the bursts."""

SCALE = 0.75
"""18,000 files in 1,800 requests: 45 s at best, of which the search is over in the first half, or should be."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A server that serves `knee` requests at once, lets others queue, and answers 503 beyond `limit`."""

    knee: int
    limit: int
    fixed: tuple[int, ...]
    """Numbers to compare with: below the knee, at it, and what it still takes."""

    @property
    def options(self) -> tuple[str, ...]:
        """The sink's."""
        service_ms = 1000 * self.knee / REQUESTS_PER_S
        served = ("--slots", str(self.knee), "--service-ms", f"{service_ms:g}", "--spread", str(SPREAD))
        return (*served, "--limit", str(self.limit))


SERVERS = (
    Simulated(2, limit=3, fixed=(1, 2, 3)),
    Simulated(8, limit=10, fixed=(6, 8, 10)),
    Simulated(24, limit=30, fixed=(16, 24, 30)),
)

ROLES = ("below the knee", "at the knee", "above it")

NOTES = [
    "Settled is from half of a run's time until its last request began, as the sink counts: the goal compares goodput",
    "then with the best fixed number's. Whole is instances/s from exec to exit, the search for the number included.",
    f"A request is {SMALL.per_study} instances, a study of its own. Each server can do {REQUESTS_PER_S} requests/s;",
    "the three are measured side by side, as they mostly wait.",
]


def simulated(bench: Bench) -> Table:
    """Return what automatic concurrency makes of servers with knees, beside fixed numbers."""
    archive = bench.corpus(SMALL, SCALE)

    def all_with(numbers: Sequence[int | None]) -> Callable[[], list[Observed]]:
        return lambda: _side_by_side(bench, archive, numbers)

    peers_of = {AUTO: all_with([None] * len(SERVERS))}
    peers_of |= {role: all_with([server.fixed[n] for server in SERVERS]) for n, role in enumerate(ROLES)}
    taken = take_turns(peers_of, bench.repeats_of(1))
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    samples: dict[str, Any] = {}
    for place, server in enumerate(SERVERS):
        found = {name: [runs[place] for runs in turns] for name, turns in taken.items()}
        rows += _rows(server, found, archive)
        goals += _goals(server, found)
        samples[f"knee at {server.knee}"] = found
    columns = ("server", "at once", "wall s", "whole/s", "settled/s", "rejected", "once settled", "CPU s")
    return Table(f"Simulated servers: {archive.files:,} small files", columns, rows, goals, NOTES, samples)


def _side_by_side(bench: Bench, archive: Corpus, numbers: Sequence[int | None]) -> list[Observed]:
    with ThreadPoolExecutor(len(SERVERS)) as together:
        return list(together.map(lambda server, number: _run(bench, archive, server, number), SERVERS, numbers))


def _run(bench: Bench, archive: Corpus, server: Simulated, number: int | None) -> Observed:
    fixed = () if number is None else ("--concurrency", str(number))
    with sink(*server.options) as origin:
        return bench.observe(archive, origin, *fixed)


def _rows(server: Simulated, found: Mapping[str, list[Observed]], archive: Corpus) -> Iterator[tuple[str, ...]]:
    for name, runs in found.items():
        numbers = ", ".join(str(run.concurrency) for run in runs) if name == AUTO else str(runs[0].concurrency)
        wall_s = statistics.median(run.sample.wall_s for run in runs)
        yield (
            f"knee at {server.knee}, 503 beyond {server.limit}",
            f"auto: {numbers}" if name == AUTO else numbers,
            f"{wall_s:.1f}",
            f"{archive.files / wall_s:,.0f}",
            f"{_goodput(runs):,.0f}",
            f"{statistics.median(run.moments[-1].rejected for run in runs):.0f}",
            f"{_rejected_share(runs):.1%}",
            f"{statistics.median(run.sample.cpu_s for run in runs):.1f}",
        )


def _goals(server: Simulated, found: Mapping[str, list[Observed]]) -> Iterator[Goal]:
    best = max((name for name in found if name != AUTO), key=lambda name: _goodput(found[name]))
    number = found[best][0].concurrency
    share = _goodput(found[AUTO]) / _goodput(found[best])
    rejected_share = _rejected_share(found[AUTO])
    where = f"knee at {server.knee}"
    yield Goal(
        f"{where}: goodput once settled >= 90 % of the best fixed number's ({number})", f"{share:.0%}", share >= WITHIN
    )
    yield Goal(f"{where}: <= 2 % rejected once settled", f"{rejected_share:.1%}", rejected_share <= REJECTED_SHARE)


def _goodput(runs: Sequence[Observed]) -> float:
    return statistics.median(run.settled.instances_per_s for run in runs)


def _rejected_share(runs: Sequence[Observed]) -> float:
    return statistics.median(run.settled.rejected_share for run in runs)
