"""The circuit breaker: when the destination counts as unavailable, and what may be sent then."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import Batch, Candidate, Cause, Instance, NoResponse, Response
from bulkstow.policy.health import (
    REJECTED_S,
    CircuitBreaker,
    CircuitState,
    Outage,
    OutageCause,
    ProbeResult,
    probe_result,
)
from bulkstow.policy.work_items import HealthSignal, Query, Store, WorkItem
from tests.archives import header

BATCH = Batch(1, (Instance(Candidate("/1", 1, 1), header(1)),))
GONE, FULL, REJECTED, EASED, BUSY, NONE = (
    HealthSignal.GONE,
    HealthSignal.FULL,
    HealthSignal.REJECTED,
    HealthSignal.EASED,
    HealthSignal.BUSY,
    HealthSignal.NONE,
)


def store() -> Store:
    """Return a store."""
    return Store(BATCH)


def question() -> Query:
    """Return a query."""
    return Query(BATCH, "no answer")


def opened(breaker: CircuitBreaker | None = None, health_signal: HealthSignal = GONE) -> CircuitBreaker:
    """Open a breaker at time 0 by as many failures as that takes."""
    breaker = breaker or CircuitBreaker(trip_after=1, first_probe_s=1.0)
    while not breaker.is_open:
        breaker.ended(store(), 0.0, health_signal)
    return breaker


def half_opened(answer: ProbeResult = ProbeResult.SERVICE) -> CircuitBreaker:
    """Return a breaker that a probe half opened after 1 s."""
    breaker = opened()
    breaker.probed(answer, 1.0)
    return breaker


def due_s(breaker: CircuitBreaker) -> float:
    """Return when the next attempt is due; 0 without an outage."""
    return 0.0 if breaker.outage is None else breaker.outage.next_attempt_s


def lasted_s(breaker: CircuitBreaker, now_s: float) -> float:
    """Return for how long an outage has lasted; 0 without one."""
    return 0.0 if breaker.outage is None else now_s - breaker.outage.began_s


def is_open(breaker: CircuitBreaker, now_s: float) -> bool:
    """Return whether a request may start."""
    return breaker.wait_s(None, now_s) <= 0.0


@pytest.mark.parametrize(
    ("before", "health_signal", "is_trial", "after", "expected_due_s"),
    [
        (opened, EASED, False, CircuitState.CLOSED, 0.0),
        (opened, BUSY, False, CircuitState.CLOSED, 0.0),
        (opened, GONE, False, CircuitState.OPEN, 1.0),
        (opened, REJECTED, False, CircuitState.OPEN, 1.0),
        (opened, FULL, False, CircuitState.FULL, 1.0),
        (opened, NONE, False, CircuitState.OPEN, 1.0),
        (half_opened, EASED, True, CircuitState.CLOSED, 0.0),
        (half_opened, BUSY, True, CircuitState.CLOSED, 0.0),
        (half_opened, GONE, True, CircuitState.OPEN, 12.0),
        (half_opened, REJECTED, True, CircuitState.OPEN, 12.0),
        (half_opened, FULL, True, CircuitState.FULL, 12.0),
        (half_opened, NONE, True, CircuitState.HALF_OPEN, 1.0),
        (half_opened, EASED, False, CircuitState.CLOSED, 0.0),
        (half_opened, GONE, False, CircuitState.HALF_OPEN, 1.0),
        (half_opened, REJECTED, False, CircuitState.HALF_OPEN, 1.0),
        (half_opened, FULL, False, CircuitState.FULL, 1.0),
        (lambda: opened(health_signal=FULL), EASED, True, CircuitState.CLOSED, 0.0),
        (lambda: opened(health_signal=FULL), FULL, True, CircuitState.FULL, 12.0),
        (lambda: opened(health_signal=FULL), GONE, True, CircuitState.OPEN, 12.0),
        (lambda: opened(health_signal=FULL), REJECTED, True, CircuitState.OPEN, 12.0),
        (lambda: opened(health_signal=FULL), NONE, True, CircuitState.FULL, 1.0),
        (lambda: opened(health_signal=FULL), FULL, False, CircuitState.FULL, 1.0),
        (lambda: opened(health_signal=FULL), GONE, False, CircuitState.OPEN, 1.0),
        (lambda: opened(health_signal=FULL), REJECTED, False, CircuitState.FULL, 1.0),
    ],
)
def test_how_a_store_ended_in_an_outage(
    before: type[CircuitBreaker],
    health_signal: HealthSignal,
    is_trial: bool,
    after: CircuitState,
    expected_due_s: float,
) -> None:
    """Each state, how a store ended at 10 s, and the next state: a failed trial doubles the interval of 1 s."""
    breaker, ended = before(), store()
    if is_trial:
        breaker.started(ended, 9.0)
    breaker.ended(ended, 10.0, health_signal)
    assert (breaker.state, due_s(breaker)) == (after, expected_due_s)


@pytest.mark.parametrize("answered", [EASED, BUSY])
@pytest.mark.parametrize("before", [opened, half_opened, lambda: opened(health_signal=FULL)])
def test_an_answered_question_closes_nothing(before: type[CircuitBreaker], answered: HealthSignal) -> None:
    """Only stores prove that stores succeed; the next request may be tried."""
    breaker, asked = before(), question()
    state = breaker.state
    breaker.started(asked, 9.0)
    breaker.ended(asked, 10.0, answered)
    assert breaker.state is state
    assert is_open(breaker, 10.0) is (state is not CircuitState.OPEN)


def test_questions_between_hanging_stores_do_not_keep_it_closed() -> None:
    """If QIDO-RS answers and STOW-RS hangs, the third store in a row opens it."""
    breaker = CircuitBreaker(trip_after=3)
    for now_s in (60.0, 120.0, 180.0):
        assert not breaker.is_open
        breaker.ended(store(), now_s, GONE)
        breaker.ended(question(), now_s, EASED)
    assert breaker.state is CircuitState.OPEN
    assert lasted_s(breaker, 180.0) == 120.0


def test_it_opens_after_failures_in_a_row() -> None:
    """Failures with an answered store between them are not in a row."""
    breaker = CircuitBreaker(trip_after=3)
    for _ in range(5):
        breaker.ended(store(), 0.0, GONE)
        breaker.ended(store(), 0.0, FULL)
        assert not breaker.is_open
        breaker.ended(store(), 0.0, EASED)
    for health_signal, state, cause in (
        (FULL, CircuitState.FULL, OutageCause.NO_ROOM),
        (GONE, CircuitState.OPEN, OutageCause.NO_ANSWER),
    ):
        breaker = opened(CircuitBreaker(trip_after=3), health_signal)
        assert (breaker.state, breaker.outage) == (state, Outage(cause, 0.0, 1.0))


def test_rejections_are_an_outage_only_when_nothing_else_succeeds() -> None:
    """A limiter that accepts some requests never opens it, however many it rejects; a service that is down does."""
    breaker = CircuitBreaker(trip_after=3)
    for second in range(100):
        for _ in range(50):
            breaker.ended(store(), float(second), REJECTED)
        breaker.ended(store(), float(second), EASED)
    assert not breaker.is_open
    for now_s in (100.0, 100.1, 100.2, 100.3):
        breaker.ended(store(), now_s, REJECTED)
    assert not breaker.is_open
    breaker.ended(store(), 100.0 + REJECTED_S, REJECTED)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize(
    ("exchange", "expected", "state"),
    [
        (Response(200, b"[]"), ProbeResult.SERVICE, CircuitState.HALF_OPEN),
        (Response(404, b""), ProbeResult.SERVICE, CircuitState.HALF_OPEN),
        (Response(500, b""), ProbeResult.SERVICE, CircuitState.HALF_OPEN),
        (NoResponse(Cause.OVERLONG, body_started=False), ProbeResult.SERVICE, CircuitState.HALF_OPEN),
        (Response(502, b""), ProbeResult.PROXY, CircuitState.HALF_OPEN),
        (Response(503, b""), ProbeResult.PROXY, CircuitState.HALF_OPEN),
        (Response(429, b""), ProbeResult.PROXY, CircuitState.HALF_OPEN),
        (NoResponse(Cause.UNANSWERED, body_started=False), ProbeResult.SILENCE, CircuitState.HALF_OPEN),
        (NoResponse(Cause.DISCONNECTED, body_started=False), ProbeResult.SILENCE, CircuitState.HALF_OPEN),
        (NoResponse(Cause.UNREACHABLE, body_started=False), ProbeResult.NOBODY, CircuitState.OPEN),
    ],
    ids=str,
)
def test_what_a_question_tells(exchange: Response | NoResponse, expected: ProbeResult, state: CircuitState) -> None:
    """Unless nobody is reached, one store is tried: probes may fail or hang although stores succeed."""
    assert probe_result(exchange) is expected
    breaker = half_opened(expected)
    assert breaker.state is state
    assert due_s(breaker) == (3.0 if state is CircuitState.OPEN else 1.0)


def test_an_answer_that_comes_after_the_outage_changes_nothing() -> None:
    """A probe may still be under way when a store is answered."""
    breaker = opened()
    breaker.ended(store(), 1.0, EASED)
    breaker.probed(ProbeResult.NOBODY, 2.0)
    breaker.probed(ProbeResult.SERVICE, 2.0)
    assert breaker.state is CircuitState.CLOSED


def test_attempts_come_at_intervals_that_double_up_to_the_cap() -> None:
    """Failed probes and failed trials double the interval; the next outage begins with the first interval again."""
    breaker = opened(CircuitBreaker(trip_after=1, first_probe_s=1.0, cap_s=10.0))
    now_s, waits_s = 0.0, []
    for number in range(6):
        waits_s.append(due_s(breaker) - now_s)
        now_s += waits_s[-1]
        if number % 2:
            breaker.probed(ProbeResult.NOBODY, now_s)
        else:
            breaker.probed(ProbeResult.SERVICE, now_s)
            breaker.started(trial := store(), now_s)
            breaker.ended(trial, now_s, GONE)
    assert waits_s == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert lasted_s(breaker, now_s) == sum(waits_s)
    breaker.ended(store(), now_s, EASED)
    assert lasted_s(breaker, now_s) == 0.0
    breaker.ended(store(), now_s, GONE)
    assert due_s(breaker) == now_s + 1.0


def test_what_may_start() -> None:
    """Nothing while it is open; one request while it is half open, or if it is full and an attempt is due."""
    gone, half, full = opened(), half_opened(), opened(health_signal=FULL)
    assert not is_open(gone, 1e6)
    assert is_open(half, 1.0)
    half.started(store(), 1.0)
    assert not is_open(half, 1e6)
    assert not is_open(full, 0.9)
    assert is_open(full, 1.0)
    full.started(store(), 1.0)
    assert not is_open(full, 1e6)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(ProbeResult.SERVICE, False), (ProbeResult.PROXY, True), (ProbeResult.SILENCE, True)],
    ids=str,
)
def test_a_trial_counts_where_the_service_is_there(answer: ProbeResult, expected: bool) -> None:
    """Then its instances may be the cause; requests that were under way before are excused in any case."""
    breaker, trial, other = half_opened(answer), store(), store()
    breaker.started(trial, 1.0)
    assert breaker.excuses(trial) is expected
    assert breaker.excuses(other)
    assert not CircuitBreaker().excuses(other)


@pytest.mark.parametrize(("is_ending", "expected"), [(False, True), (True, False)])
def test_a_lack_of_space_explains_nothing_at_the_end(is_ending: bool, expected: bool) -> None:
    """The instances that are left may be those that never fit; an unavailable server excuses them in any case."""
    assert opened(health_signal=FULL).excuses(store(), is_ending=is_ending) is expected
    assert opened().excuses(store(), is_ending=is_ending)


@pytest.mark.parametrize("health_signal", [GONE, FULL])
def test_the_limit_counts_from_the_first_failure(health_signal: HealthSignal) -> None:
    """It counts through all states of an outage; without an outage or a limit nothing is given up."""
    breaker = CircuitBreaker(trip_after=2, give_up_after_s=100.0)
    breaker.ended(store(), 10.0, health_signal)
    assert breaker.gives_up_in_s(10.0) == math.inf
    breaker.ended(store(), 30.0, health_signal)
    assert breaker.gives_up_in_s(30.0) == 80.0
    breaker.probed(ProbeResult.SERVICE, 31.0)
    assert breaker.gives_up_in_s(110.0) == 0.0
    breaker.ended(store(), 111.0, EASED)
    assert breaker.gives_up_in_s(111.0) == math.inf
    assert opened().gives_up_in_s(1e9) == math.inf


def test_trials_are_stores_that_were_sent_seldom() -> None:
    """Then come stores with more attempts, and queries after all stores; without an outage all are equal."""
    often = Store(replace(BATCH, requests=7))
    items: list[WorkItem] = [question(), often, store()]
    assert sorted(items, key=opened().rank) == [store(), often, question()]
    assert {CircuitBreaker().rank(item) for item in (question(), often, store())} == {0}


@given(
    st.lists(
        st.tuples(st.sampled_from([*HealthSignal, *ProbeResult, "start"]), st.booleans(), st.floats(0, 100)),
        max_size=60,
    ),
    st.integers(1, 4),
)
def test_it_never_gets_stuck(
    events: list[tuple[HealthSignal | ProbeResult | str, bool, float]], trip_after: int
) -> None:
    """After any events: an attempt is due after `cap_s` at most, and an answered store closes it."""
    breaker, now_s = CircuitBreaker(trip_after=trip_after, cap_s=60.0), 0.0
    under_way: list[Store | Query] = []
    for event, is_question, later_s in events:
        now_s += later_s
        match event:
            case ProbeResult():
                breaker.probed(event, now_s)
            case HealthSignal() if under_way:
                breaker.ended(under_way.pop(), now_s, event)
            case _ if is_open(breaker, now_s):
                under_way.append(question() if is_question else store())
                breaker.started(under_way[-1], now_s)
            case _:
                pass
        assert due_s(breaker) <= now_s + 60.0
        assert lasted_s(breaker, now_s) <= now_s
    for item in under_way:
        breaker.ended(item, now_s, NONE)
    now_s += 60.0
    breaker.probed(ProbeResult.SERVICE, now_s)
    assert is_open(breaker, now_s)
    breaker.started(last := store(), now_s)
    breaker.ended(last, now_s, EASED)
    assert breaker.state is CircuitState.CLOSED
