"""Which loads are put on, and for how long."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Any

import pytest

from bulkstow.bench.driver import LoadPhase
from bulkstow.bench.knee import BATCHES, CONNECTIONS
from bulkstow.bench.load_plan import OPEN_CONNECTIONS, ROUNDS, LoadPlan, plan
from bulkstow.bench.result import Load
from bulkstow.bench.settings import BenchSettings

CT_BYTES = 525_520.0


def planned(mean_bytes: float = CT_BYTES, **settings: Any) -> LoadPlan:
    """Return the plan of these settings."""
    return plan(BenchSettings(**settings), mean_bytes, Random(1))


def totals(found: LoadPlan, goodput_per_s: float = 100.0) -> list[tuple[int, bool]]:
    """Return what the plan says of its length before each of its loads."""
    visited: list[tuple[Load, float]] = []
    said = [found.total(visited)]
    while (phase := found.next(visited)) is not None:
        visited.append((phase.load, goodput_per_s))
        said.append(found.total(visited))
    return said


def put_on(found: LoadPlan, goodput_per_s: float = 100.0) -> list[LoadPhase]:
    """Return all phases of a plan on a server with this goodput at any load."""
    phases: list[LoadPhase] = []
    while (phase := found.next([(phase.load, goodput_per_s) for phase in phases])) is not None:
        phases.append(phase)
        assert len(phases) < 1000
    return phases


@pytest.mark.parametrize(
    ("mean_bytes", "settings", "load", "connections", "duration_s"),
    [
        (CT_BYTES, {}, Load(31, connections=8), 8, 30),
        (10_180, {}, Load(200, connections=8), 8, 30),
        (55e6, {}, Load(1, connections=8), 8, 30),
        (CT_BYTES, {"connections": (3,), "batch_instances": (7,)}, Load(7, connections=3), 3, 30),
        (CT_BYTES, {"batch_instances": (7,), "batch_bytes": 2**20}, Load(1, connections=8), 8, 30),
        (CT_BYTES, {"batch_instances": (7,), "batch_bytes": 2 * 2**20}, Load(3, connections=8), 8, 30),
        (CT_BYTES, {"batch_bytes": 1000}, Load(1, connections=8), 8, 30),
        (CT_BYTES, {"mode": "soak"}, Load(31, connections=8), 8, 3600),
        (CT_BYTES, {"mode": "open", "rate": 50.0}, Load(31, rate_per_s=50), OPEN_CONNECTIONS, 30),
        (CT_BYTES, {"mode": "open", "rate": 50.0, "connections": (9,), "duration_s": 5.0}, None, 9, 5),
    ],
)
def test_auto_by_mode_and_size(
    mean_bytes: float, settings: dict[str, Any], load: Load | None, connections: int, duration_s: float
) -> None:
    """A request holds what `upload` begins with, or what is asked for; a single load is put on once."""
    (phase,) = put_on(planned(mean_bytes, **settings))
    assert (load or phase.load, connections, duration_s) == (phase.load, phase.connections, phase.duration_s)
    assert phase.warmup_s is None
    assert phase.rounds == 0


def test_repeats_are_the_same_load_again() -> None:
    """Three times means three times, each with its warm-up."""
    phases = put_on(planned(repeats=3, warmup_s=2.0))
    assert len(phases) == 3
    assert {phase.load for phase in phases} == {Load(31, connections=8)}
    assert {phase.warmup_s for phase in phases} == {2.0}


def test_how_many_loads_there_are_is_known() -> None:
    """Of a load all repeats; of a sweep at most both ways over every row, less what an early end of a row saves."""
    assert totals(planned(repeats=3)) == [(3, True)] * 4
    assert totals(planned(mode="sweep", connections=(1, 2), batch_instances=(1, 10)))[:5] == [
        *[(8, False)] * 4,
        (8, True),
    ]
    # Nothing is gained after 1 connection: each row ends at the third of its four loads.
    flat = totals(planned(mode="sweep", connections=(1, 2, 4, 8), batch_instances=(1, 10), repeats=2))
    assert flat[:8] == [*[(32, False)] * 3, *[(28, False)] * 3, (24, True), (24, True)]
    assert len(flat) == 24 + 1
    assert {is_exact for _, is_exact in flat[6:]} == {True}


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_an_open_load_comes_at_its_rate(arrivals: str) -> None:
    """Requests are due as often as instances by batch say, however they come."""
    (phase,) = put_on(planned(mode="open", rate=50.0, batch_instances=(5,), arrivals=arrivals))
    assert phase.starts is not None
    starts_s = list(islice(phase.starts(), 1001))
    assert starts_s[1000] == pytest.approx(100, rel=0.1)
    assert (starts_s[1] == pytest.approx(0.1)) is (arrivals == "constant")


def test_a_sweep_goes_up_and_down_over_its_lists() -> None:
    """Its loads wait for rounds, not for a warm-up; that comes once before, and may be left out."""
    found = planned(mode="sweep", connections=(1, 2), batch_instances=(1, 10), duration_s=3.0)
    up = [Load(batch, connections=number) for batch in (1, 10) for number in (1, 2)]
    phases = put_on(found)
    assert [phase.load for phase in phases] == up + up[::-1]
    assert {(phase.rounds, phase.warmup_s, phase.duration_s) for phase in phases} == {(ROUNDS, None, 3.0)}
    assert all(phase.connections == phase.load.connections for phase in phases)
    assert found.warmup is not None
    assert found.warmup.load in up
    assert planned(mode="sweep", warmup_s=0.0).warmup is None


def test_a_sweep_has_its_ladder_where_nothing_is_said() -> None:
    """The knee's own steps, less the batches that are too large."""
    rows = planned(mode="sweep").rows
    assert [row[0].batch_instances for row in rows] == list(BATCHES)
    assert [load.connections for load in rows[0]] == list(CONNECTIONS)
    assert len(planned(55e6, mode="sweep").rows) == 1


def test_a_sweep_is_repeated_as_a_whole() -> None:
    """Up and down, and once more up and down, over the loads that the first climb came to."""
    phases = put_on(planned(mode="sweep", batch_instances=(1,), repeats=2))
    loads = [phase.load for phase in phases]
    once = loads[: len(loads) // 2]
    assert loads == once + once
    assert once == once[::-1]
    assert [load.connections for load in once[:3]] == [1, 2, 4]
