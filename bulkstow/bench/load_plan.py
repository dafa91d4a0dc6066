"""The loads of a run, their order and duration, and the time that is left of them.

Defines the meaning of `auto` in the settings for each mode. Has no clock; randomness for Poisson arrivals is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import fmean

from bulkstow.bench import schedule
from bulkstow.bench.driver import FILL_S, LoadPhase
from bulkstow.bench.knee import BATCHES, CONNECTIONS, ladder, next_load, round_trip
from bulkstow.bench.recorder import SETTLE_S
from bulkstow.bench.result import Load
from bulkstow.bench.settings import BenchSettings


class TimeLeft:
    """Estimates the rest of a run whose loads are all planned like `phase`.

    A load takes longer than planned: connections open, requests in flight are waited for, rounds are completed. Those
    to come, and their deletion, are expected to take the mean time of those that are over.
    """

    def __init__(self, phase: LoadPhase) -> None:
        self._load_s = warmup_s(phase) + phase.duration_s
        self._loads_s: list[float] = []
        self._cleanups_s: list[float] = []

    def load_took(self, elapsed_s: float) -> None:
        """Note the time of a load, from its first request to its last response."""
        self._loads_s.append(elapsed_s)

    def cleanup_took(self, elapsed_s: float) -> None:
        """Note the time of a deletion."""
        self._cleanups_s.append(elapsed_s)

    def of_run_s(self, of_load_s: float, loads_after: int) -> float:
        """Return the time left when a load has `of_load_s` left and `loads_after` follow, with their deletion."""
        load_s = max(fmean(self._loads_s), self._load_s) if self._loads_s else self._load_s
        cleanup_s = fmean(self._cleanups_s) if self._cleanups_s else 0.0
        return of_load_s + loads_after * load_s + (loads_after + 1) * cleanup_s


def of_load_s(phase: LoadPhase, elapsed_s: float, warmup_took_s: float | None) -> float:
    """Return the time left of a load after `elapsed_s`; `warmup_took_s` is None during the warm-up."""
    if warmup_took_s is None:
        return max(warmup_s(phase) - elapsed_s, 0.0) + phase.duration_s
    return max(warmup_took_s + phase.duration_s - elapsed_s, 0.0)


def warmup_s(phase: LoadPhase) -> float:
    """Return the planned time of a warm-up, the least where it ends when goodput has settled."""
    if phase.warmup_s is not None:
        return phase.warmup_s
    return FILL_S if phase.rounds else 2.0 * SETTLE_S


CLOSED_CONNECTIONS = 8
"""Twice the knee of Orthanc on 2 cores."""

OPEN_CONNECTIONS = 64
"""Enough for 64 requests/s of one second each; a request without a free connection waits, and its latency counts."""

DURATION_S = {"closed": 30.0, "open": 30.0, "sweep": 10.0, "soak": 3600.0}
"""Half a minute holds the pauses that come every few seconds, and 300 requests of 0.1 s for a p99 that three of them
make; a sweep has some twenty loads, each measured twice; a soak is to outlast caches and the server's housekeeping."""

BATCH_BYTES = 16 * 2**20
BATCH_INSTANCES = 200
"""The first batch of `upload`."""

ROUNDS = 3
"""Responses of each connection in a load of a sweep: one may be an exception, two may differ."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The loads of a run."""

    rows: tuple[tuple[Load, ...], ...]
    """The loads, rows of rising connections; of all but a sweep a single one."""
    phase: Callable[[Load], LoadPhase]
    repeats: int
    warmup: LoadPhase | None
    """Before the first load, and kept out of everything."""

    def next(self, visited: Sequence[tuple[Load, float]]) -> LoadPhase | None:
        """Return the next phase, None at the end; `visited` has the loads so far, with their goodput."""
        if len(self.rows) == len(self.rows[0]) == 1:
            return self.phase(self.rows[0][0]) if len(visited) < self.repeats else None
        load = next_load(self.rows, visited)
        if load is None:
            load = self._again([load for load, _ in visited])
        return None if load is None else self.phase(load)

    def total(self, visited: Sequence[tuple[Load, float]]) -> tuple[int, bool]:
        """Return the most loads that `next` can give in all, and whether that number is exact."""
        if len(self.rows) == len(self.rows[0]) == 1:
            return self.repeats, True
        once, is_exact = round_trip(self.rows, visited)
        return self.repeats * once, is_exact

    def _again(self, visited: Sequence[Load]) -> Load | None:
        """Return the next load of another way up and down over the same loads."""
        round_trip = 2 * len(set(visited))
        return visited[len(visited) - round_trip] if len(visited) < self.repeats * round_trip else None


def plan(settings: BenchSettings, mean_bytes: float, chance: Random) -> LoadPlan:
    """Return the loads for the settings and a mean size of instances."""
    duration_s = DURATION_S[settings.mode] if settings.duration_s is None else settings.duration_s
    if settings.mode == "sweep":
        batches = [_within(settings, mean_bytes, count) for count in settings.batch_instances or BATCHES]
        rows = ladder(mean_bytes, settings.connections or CONNECTIONS, batches)
        middle = rows[len(rows) // 2][len(rows[0]) // 2]
        return LoadPlan(
            rows,
            lambda load: LoadPhase(load, load.connections or 1, duration_s, None, rounds=ROUNDS),
            settings.repeats,
            None if settings.warmup_s == 0 else LoadPhase(middle, middle.connections or 1, 0.0, settings.warmup_s),
        )
    auto = min(max(int(BATCH_BYTES // mean_bytes), 1), BATCH_INSTANCES)
    batch = _within(settings, mean_bytes, settings.batch_instances[0] if settings.batch_instances else auto)
    if settings.rate is not None:
        slots = settings.connections[0] if settings.connections else OPEN_CONNECTIONS
        starts = _starts(settings, settings.rate, batch, chance)
        load = Load(batch, rate_per_s=settings.rate)
        return _constant(LoadPhase(load, slots, duration_s, settings.warmup_s, starts), settings.repeats)
    connections = settings.connections[0] if settings.connections else CLOSED_CONNECTIONS
    load = Load(batch, connections=connections)
    return _constant(LoadPhase(load, connections, duration_s, settings.warmup_s), settings.repeats)


def _constant(phase: LoadPhase, repeats: int) -> LoadPlan:
    return LoadPlan(((phase.load,),), lambda _: phase, repeats, None)


def _within(settings: BenchSettings, mean_bytes: float, count: int) -> int:
    """Return the instances of a request: `count`, or as many as fit into --batch-bytes, at least one."""
    if settings.batch_bytes is None:
        return count
    return max(min(count, int(settings.batch_bytes // mean_bytes)), 1)


def _starts(settings: BenchSettings, rate_per_s: float, batch: int, chance: Random) -> Callable[[], Iterator[float]]:
    if settings.arrivals == "poisson":
        return partial(schedule.poisson, rate_per_s, batch, chance)
    return partial(schedule.constant, rate_per_s, batch)
