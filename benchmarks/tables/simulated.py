"""Automatic concurrency on simulated servers: each has a knee, and refuses with 503 what goes somewhat beyond it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.bench import Bench, Observed
from benchmarks.corpus import CT, Corpus, Kind
from benchmarks.measure import Figures, Goal, Table, ratio, take_turns
from benchmarks.processes import sink

AUTO = "auto"

REJECTED_SHARE = 0.02
"""Of the requests of the whole run."""

INSTANCES_PER_S = 400
"""What each of the servers can do: a run takes 5 s at best, and a first request of 7 slices 0.4 s where the knee is at
24. Client and sink use half a core, so that the servers can be measured side by side."""

SPREAD = 0.3
"""Of the service: without, requests end in bursts of the knee, and whoever counts them sees the bursts."""

SLICES = Kind("brief", files=2_000, rows=CT.rows, columns=CT.columns, per_study=7)
"""A study is a request at first, so that none waits for another of its study."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A server that serves `knee` requests at once, lets others queue, and answers 503 beyond `limit`."""

    knee: int
    limit: int
    fixed: tuple[int, ...]
    """Numbers to compare with: below the knee, at it, and what it still takes."""
    most: float
    """How many times as long as with the best of them a run may take."""
    by_request: bool = False
    """A request takes its time whatever it holds."""

    @property
    def name(self) -> str:
        """Knee and kind."""
        return f"knee at {self.knee}{', by request' if self.by_request else ''}"

    @property
    def options(self) -> tuple[str, ...]:
        """The sink's."""
        instance_ms = 1000 * self.knee / INSTANCES_PER_S
        service = ("--service-ms", f"{7 * instance_ms:g}") if self.by_request else ("--instance-ms", f"{instance_ms:g}")
        return ("--slots", str(self.knee), *service, "--spread", str(SPREAD), "--limit", str(self.limit))


SERVERS = (
    Simulated(2, limit=3, fixed=(1, 2, 3), most=1.1),
    Simulated(8, limit=10, fixed=(6, 8, 10), most=1.1),
    Simulated(24, limit=30, fixed=(16, 24, 30), most=1.2),
    Simulated(24, limit=30, fixed=(16, 24, 30), most=1.2, by_request=True),
)

ROLES = ("below the knee", "at the knee", "above it")

NOTES = [
    "Whole processes, the search for the number included; x best is the median of the turns' ratios to the best fixed",
    f"number. Each server can do {INSTANCES_PER_S} instances/s, the last one more, as its requests take 0.4 s whatever",
    "they hold. They are measured side by side, as they mostly wait.",
]


def simulated(bench: Bench) -> Table:
    """Return what automatic concurrency makes of servers with knees, beside fixed numbers."""
    archive = bench.corpus(SLICES, 1.0)

    def all_with(numbers: Sequence[int | None]) -> Callable[[], list[Observed]]:
        return lambda: _side_by_side(bench, archive, numbers)

    peers_of = {AUTO: all_with([None] * len(SERVERS))}
    peers_of |= {role: all_with([server.fixed[n] for server in SERVERS]) for n, role in enumerate(ROLES)}
    taken = take_turns(peers_of, bench.repeats)
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    samples: dict[str, dict[str, list[Observed]]] = {}
    for place, server in enumerate(SERVERS):
        found = {name: [runs[place] for runs in turns] for name, turns in taken.items()}
        best = min((name for name in found if name != AUTO), key=lambda name: _figures(found[name]).wall_s)
        rows += _rows(server, found, best)
        goals += _goals(server, found, best)
        samples[server.name] = found
    columns = ("server", "at once", "wall s", "min-max", "x best", "requests", "rejected", "CPU s")
    return Table(f"Simulated servers: {archive.files:,} CT slices", columns, rows, goals, NOTES, samples)


def _side_by_side(bench: Bench, archive: Corpus, numbers: Sequence[int | None]) -> list[Observed]:
    with ThreadPoolExecutor(len(SERVERS)) as together:
        return list(together.map(lambda server, number: _run(bench, archive, server, number), SERVERS, numbers))


def _run(bench: Bench, archive: Corpus, server: Simulated, number: int | None) -> Observed:
    fixed = () if number is None else ("--concurrency", str(number))
    with sink(*server.options) as origin:
        return bench.observe(archive, origin, *fixed)


def _figures(runs: Sequence[Observed]) -> Figures:
    return Figures([run.sample for run in runs])


def _rows(server: Simulated, found: Mapping[str, list[Observed]], best: str) -> Iterator[tuple[str, ...]]:
    for name, runs in found.items():
        numbers = ", ".join(str(run.concurrency) for run in runs) if name == AUTO else str(runs[0].concurrency)
        figures = _figures(runs)
        yield (
            f"{server.name}, 503 beyond {server.limit}",
            f"auto: {numbers}" if name == AUTO else numbers,
            f"{figures.wall_s:.2f}",
            figures.spread,
            f"{ratio(figures, _figures(found[best])):.2f}",
            f"{statistics.median(run.moments[-1].requests for run in runs):.0f}",
            f"{_rejected_share(runs):.1%}",
            f"{figures.cpu_s:.1f}",
        )


def _goals(server: Simulated, found: Mapping[str, list[Observed]], best: str) -> Iterator[Goal]:
    times, rejected_share = ratio(_figures(found[AUTO]), _figures(found[best])), _rejected_share(found[AUTO])
    number = found[best][0].concurrency
    yield Goal(
        f"{server.name}: whole run <= {server.most} x the best fixed number's ({number})",
        f"{times:.2f} x",
        times <= server.most,
    )
    yield Goal(f"{server.name}: <= 2 % rejected", f"{rejected_share:.1%}", rejected_share <= REJECTED_SHARE)


def _rejected_share(runs: Sequence[Observed]) -> float:
    return statistics.median(run.moments[-1].rejected / run.moments[-1].requests for run in runs)
