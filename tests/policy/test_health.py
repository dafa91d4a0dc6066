"""Claims about whether the destination counts as gone, and what may be sent to it then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import Batch, Candidate, Cause, Instance, NoResponse, Response
from bulkstow.policy.health import REJECTED_S, CircuitBreaker, OutageCause, ProbeResult, State, probe_result
from bulkstow.policy.work_items import HealthSignal, Query, Store
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
    """Return a request of its own."""
    return Store(BATCH)


def question() -> Query:
    """Return a question of its own."""
    return Query(BATCH, "no answer")


def opened(breaker: CircuitBreaker | None = None, health_signal: HealthSignal = GONE) -> CircuitBreaker:
    """Open a breaker at time 0 by as many failures as it takes."""
    breaker = breaker or CircuitBreaker(trip_after=1, first_probe_s=1.0)
    while not breaker.is_open:
        breaker.ended(store(), health_signal, 0.0)
    return breaker


def half_opened(answer: ProbeResult = ProbeResult.SERVICE) -> CircuitBreaker:
    """Return a breaker that a question half opened after 1 s."""
    breaker = opened()
    breaker.asked(answer, 1.0)
    return breaker


@pytest.mark.parametrize(
    ("before", "health_signal", "is_trial", "after", "due_s"),
    [
        (opened, EASED, False, State.CLOSED, 0.0),
        (opened, BUSY, False, State.CLOSED, 0.0),
        (opened, GONE, False, State.OPEN, 1.0),
        (opened, REJECTED, False, State.OPEN, 1.0),
        (opened, FULL, False, State.FULL, 1.0),
        (opened, NONE, False, State.OPEN, 1.0),
        (half_opened, EASED, True, State.CLOSED, 0.0),
        (half_opened, BUSY, True, State.CLOSED, 0.0),
        (half_opened, GONE, True, State.OPEN, 12.0),
        (half_opened, REJECTED, True, State.OPEN, 12.0),
        (half_opened, FULL, True, State.FULL, 12.0),
        (half_opened, NONE, True, State.HALF_OPEN, 1.0),
        (half_opened, EASED, False, State.CLOSED, 0.0),
        (half_opened, GONE, False, State.HALF_OPEN, 1.0),
        (half_opened, REJECTED, False, State.HALF_OPEN, 1.0),
        (half_opened, FULL, False, State.FULL, 1.0),
        (lambda: opened(health_signal=FULL), EASED, True, State.CLOSED, 0.0),
        (lambda: opened(health_signal=FULL), FULL, True, State.FULL, 12.0),
        (lambda: opened(health_signal=FULL), GONE, True, State.OPEN, 12.0),
        (lambda: opened(health_signal=FULL), REJECTED, True, State.OPEN, 12.0),
        (lambda: opened(health_signal=FULL), NONE, True, State.FULL, 1.0),
        (lambda: opened(health_signal=FULL), FULL, False, State.FULL, 1.0),
        (lambda: opened(health_signal=FULL), GONE, False, State.OPEN, 1.0),
        (lambda: opened(health_signal=FULL), REJECTED, False, State.FULL, 1.0),
    ],
)
def test_how_a_store_ended_in_an_outage(
    before: type[CircuitBreaker], health_signal: HealthSignal, is_trial: bool, after: State, due_s: float
) -> None:
    """Each state, how a store ended at 10 s, and what follows: the trial's failure doubles the interval of 1 s."""
    breaker, ended = before(), store()
    if is_trial:
        breaker.started(ended)
    breaker.ended(ended, health_signal, 10.0)
    assert (breaker.state, breaker.due_s) == (after, due_s)


@pytest.mark.parametrize("answered", [EASED, BUSY])
@pytest.mark.parametrize("before", [opened, half_opened, lambda: opened(health_signal=FULL)])
def test_an_answered_question_closes_nothing(before: type[CircuitBreaker], answered: HealthSignal) -> None:
    """Only stores tell whether stores succeed; the next request may be tried."""
    breaker, asked = before(), question()
    state = breaker.state
    breaker.started(asked)
    breaker.ended(asked, answered, 10.0)
    assert breaker.state is state
    assert breaker.allow(10.0) is (state is not State.OPEN)


def test_questions_between_hanging_stores_do_not_keep_it_closed() -> None:
    """Where QIDO-RS answers and STOW-RS hangs, the third store in a row opens it."""
    breaker = CircuitBreaker(trip_after=3)
    for now_s in (60.0, 120.0, 180.0):
        assert not breaker.is_open
        breaker.ended(store(), GONE, now_s)
        breaker.ended(question(), EASED, now_s)
    assert breaker.state is State.OPEN
    assert breaker.lasted_s(180.0) == 120.0


def test_it_opens_after_failures_in_a_row() -> None:
    """Failures with an answered store between them do not add up."""
    breaker = CircuitBreaker(trip_after=3)
    for _ in range(5):
        breaker.ended(store(), GONE, 0.0)
        breaker.ended(store(), FULL, 0.0)
        assert not breaker.is_open
        breaker.ended(store(), EASED, 0.0)
    breaker = opened(CircuitBreaker(trip_after=3), FULL)
    assert (breaker.is_full, breaker.cause) == (True, OutageCause.NO_ROOM)
    assert opened(CircuitBreaker(trip_after=3)).cause is OutageCause.NO_ANSWER


def test_rejections_are_an_outage_only_when_nothing_else_succeeds() -> None:
    """A limiter that lets some requests pass never opens it, however many it rejects; a service that is down does."""
    breaker = CircuitBreaker(trip_after=3)
    for second in range(100):
        for _ in range(50):
            breaker.ended(store(), REJECTED, float(second))
        breaker.ended(store(), EASED, float(second))
    assert not breaker.is_open
    for now_s in (100.0, 100.1, 100.2, 100.3):
        breaker.ended(store(), REJECTED, now_s)
    assert not breaker.is_open
    breaker.ended(store(), REJECTED, 100.0 + REJECTED_S)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(
    ("exchange", "expected", "state"),
    [
        (Response(200, b"[]"), ProbeResult.SERVICE, State.HALF_OPEN),
        (Response(404, b""), ProbeResult.SERVICE, State.HALF_OPEN),
        (Response(500, b""), ProbeResult.SERVICE, State.HALF_OPEN),
        (NoResponse(Cause.OVERLONG, body_started=False), ProbeResult.SERVICE, State.HALF_OPEN),
        (Response(502, b""), ProbeResult.PROXY, State.HALF_OPEN),
        (Response(503, b""), ProbeResult.PROXY, State.HALF_OPEN),
        (Response(429, b""), ProbeResult.PROXY, State.HALF_OPEN),
        (NoResponse(Cause.UNANSWERED, body_started=False), ProbeResult.SILENCE, State.HALF_OPEN),
        (NoResponse(Cause.DISCONNECTED, body_started=False), ProbeResult.SILENCE, State.HALF_OPEN),
        (NoResponse(Cause.UNREACHABLE, body_started=False), ProbeResult.NOBODY, State.OPEN),
    ],
    ids=str,
)
def test_what_a_question_tells(exchange: Response | NoResponse, expected: ProbeResult, state: State) -> None:
    """Unless nobody is there, one store is tried: questions may find nobody, or hang, where stores succeed."""
    assert probe_result(exchange) is expected
    breaker = half_opened(expected)
    assert breaker.state is state
    assert breaker.due_s == (3.0 if state is State.OPEN else 1.0)


def test_an_answer_that_comes_after_the_outage_changes_nothing() -> None:
    """A question may still be under way when a store is answered."""
    breaker = opened()
    breaker.ended(store(), EASED, 1.0)
    breaker.asked(ProbeResult.NOBODY, 2.0)
    breaker.asked(ProbeResult.SERVICE, 2.0)
    assert breaker.state is State.CLOSED


def test_attempts_come_at_intervals_that_double_up_to_the_cap() -> None:
    """Whether questions fail or trials do; after the outage the next one begins with the first interval."""
    breaker = opened(CircuitBreaker(trip_after=1, first_probe_s=1.0, cap_s=10.0))
    now_s, waits_s = 0.0, []
    for number in range(6):
        waits_s.append(breaker.wait_s(now_s))
        now_s += waits_s[-1]
        assert breaker.wait_s(now_s) == 0.0
        if number % 2:
            breaker.asked(ProbeResult.NOBODY, now_s)
        else:
            breaker.asked(ProbeResult.SERVICE, now_s)
            breaker.started(trial := store())
            breaker.ended(trial, GONE, now_s)
    assert waits_s == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert breaker.lasted_s(now_s) == sum(waits_s)
    breaker.ended(store(), EASED, now_s)
    assert breaker.lasted_s(now_s) == 0.0
    breaker.ended(store(), GONE, now_s)
    assert breaker.wait_s(now_s) == 1.0


def test_what_may_start() -> None:
    """Nothing while it is gone; one request while it is half open, or full and an attempt is due."""
    gone, half, full = opened(), half_opened(), opened(health_signal=FULL)
    assert not gone.allow(1e6)
    assert half.allow(1.0)
    half.started(store())
    assert not half.allow(1e6)
    assert not full.allow(0.9)
    assert full.allow(1.0)
    full.started(store())
    assert not full.allow(1e6)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(ProbeResult.SERVICE, False), (ProbeResult.PROXY, True), (ProbeResult.SILENCE, True)],
    ids=str,
)
def test_a_trial_counts_where_the_service_is_there(answer: ProbeResult, expected: bool) -> None:
    """Then its instances may be the cause; the requests that were under way before are excused in any case."""
    breaker, trial, other = half_opened(answer), store(), store()
    breaker.started(trial)
    assert breaker.excuses(trial) is expected
    assert breaker.excuses(other)
    assert not CircuitBreaker().excuses(other)


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
    """Whatever happened: as time passes an attempt is due, at most `cap_s` later, and an answered store closes it."""
    breaker, now_s = CircuitBreaker(trip_after=trip_after, cap_s=60.0), 0.0
    under_way: list[Store | Query] = []
    for event, is_question, later_s in events:
        now_s += later_s
        match event:
            case ProbeResult():
                breaker.asked(event, now_s)
            case HealthSignal() if under_way:
                breaker.ended(under_way.pop(), event, now_s)
            case _ if breaker.allow(now_s):
                under_way.append(question() if is_question else store())
                breaker.started(under_way[-1])
            case _:
                pass
        assert breaker.wait_s(now_s) <= 60.0
        assert breaker.lasted_s(now_s) <= now_s
    for item in under_way:
        breaker.ended(item, NONE, now_s)
    now_s += 60.0
    breaker.asked(ProbeResult.SERVICE, now_s)
    assert breaker.allow(now_s)
    breaker.started(last := store())
    breaker.ended(last, EASED, now_s)
    assert breaker.state is State.CLOSED
