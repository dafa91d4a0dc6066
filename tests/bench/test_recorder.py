"""What counts, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.bench.recorder import Measured, RecordedRequest, Recorder, has_settled, merge
from bulkstow.bench.result import Load, Second
from tests.bench.measurements import second

BEGAN_S = 1000.0
LOAD = Load(10, connections=4)


def ended(intended_s: float, ended_s: float, **fields: object) -> RecordedRequest:
    """Return a request of ten instances; times count from the beginning."""
    plain = RecordedRequest(
        BEGAN_S + intended_s, BEGAN_S + intended_s, BEGAN_S + ended_s, instances=10, size_bytes=1000
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def measured(requests: Sequence[RecordedRequest], *, warmup_s: float | None = 0.0, stop_s: float = 10.0) -> Measured:
    """Record requests, in their order, under a load that ends after `stop_s`."""
    recorder = Recorder(BEGAN_S, warmup_s=warmup_s)
    is_stopped = False
    for request in requests:
        if not is_stopped and request.ended_s >= BEGAN_S + stop_s:
            recorder.stop(BEGAN_S + stop_s)
            is_stopped = True
        recorder.started(request.started_s)
        recorder.ended(request)
    if not is_stopped:
        recorder.stop(BEGAN_S + stop_s)
    return recorder.finish(BEGAN_S + stop_s)


def test_goodput_is_what_was_acknowledged_under_load() -> None:
    """Warm-up before, drain behind; what was due in the warm-up and answered later counts for goodput alone."""
    found = measured(
        [ended(0, 1), ended(1, 3), ended(3, 4), ended(8, 9.5), ended(9, 12)],
        warmup_s=2.0,
    )
    assert (found.elapsed_s, found.warmup_s) == (8, 2)
    assert (found.warmup_instances, found.instances, found.drained_instances) == (10, 30, 10)
    assert (found.requests, found.size_bytes) == (3, 3000)
    assert (found.latency.count, found.warmup_latency.count) == (3, 2)


def test_what_is_answered_after_the_end_is_in_the_latencies() -> None:
    """A server that freezes at the end does not look fast: what it held up has its time."""
    assert measured([ended(9, 25)]).latency.percentiles().max_s == 16


def test_latency_counts_from_the_intended_start() -> None:
    """Service time counts from the actual one, and the slip is between them where a slot was free."""
    late = ended(1, 4, started_s=BEGAN_S + 3)
    found = measured([late, replace(late, had_slot=False)])
    assert found.latency.percentiles().max_s == 3
    assert found.service_time.percentiles().max_s == 1
    assert (found.slip.count, found.slip.percentiles().max_s) == (1, 2)


def test_a_request_is_split_into_its_stretches() -> None:
    """Connect, send and thinking add up to the service time; a connection that stood already has none of the first."""
    fresh = ended(1, 4, connected_s=BEGAN_S + 1.5, taken_s=BEGAN_S + 3)
    found = measured([fresh, replace(fresh, connected_s=None)])
    assert (found.connect.count, found.connect.percentiles().max_s) == (1, 0.5)
    assert found.send.percentiles().max_s == 2
    assert found.send.percentiles().mean_s == pytest.approx((1.5 + 2) / 2)
    assert found.thinking.percentiles().mean_s == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "in_latency", "in_failed"),
    [
        ({}, 1, 0),
        ({"instances": 9, "errors": {"0xC000": 1}}, 1, 0),
        ({"instances": 0, "errors": {"503": 10}}, 0, 1),
        ({"instances": 0, "errors": {"no connection": 10}}, 0, 1),
        ({"instances": 0, "errors": {"no answer in time": 10}, "is_unanswered": True}, 1, 0),
    ],
    ids=["stored", "stored in part", "refused", "no connection", "no answer"],
)
def test_a_quick_refusal_makes_no_latency(fields: dict[str, object], in_latency: int, in_failed: int) -> None:
    """Latencies are of requests that stored something or got no answer; the others' times are kept apart."""
    found = measured([ended(1, 2, **fields)])
    assert (found.latency.count, found.failed.count) == (in_latency, in_failed)
    assert found.errors == fields.get("errors", {})


def test_errors_and_drops_are_of_what_was_due_under_load() -> None:
    """Those of the warm-up are left out, those that show after the end are not."""
    failed = {"instances": 0, "errors": {"500": 10}}
    recorder = Recorder(BEGAN_S, warmup_s=2.0)
    for request in (ended(1, 3, **failed), ended(3, 4, **failed)):
        recorder.started(request.started_s)
        recorder.ended(request)
    recorder.dropped(BEGAN_S + 1, 7, now_s=BEGAN_S + 5)
    recorder.dropped(BEGAN_S + 4, 3, now_s=BEGAN_S + 5)
    recorder.stop(BEGAN_S + 6)
    recorder.ended(ended(5, 8, **failed))
    found = recorder.finish(BEGAN_S + 9)
    assert found.errors == {"500": 20}
    assert found.dropped == 3


def test_the_series_has_every_second() -> None:
    """Seconds without an answer are there too, with what is under way; warm-up and drain are marked."""
    recorder = Recorder(BEGAN_S, warmup_s=1.0)
    for request in (ended(0, 0.5), ended(0.6, 3.2)):
        recorder.started(request.started_s)
        recorder.ended(request)
    recorder.started(BEGAN_S + 3.9)
    recorder.stop(BEGAN_S + 4)
    recorder.ended(ended(3.9, 4.5))
    series = recorder.finish(BEGAN_S + 5).series
    assert [s.at_s for s in series] == [0, 1, 2, 3, 4]
    assert [s.instances for s in series] == [10, 0, 0, 10, 10]
    assert [s.in_flight for s in series] == [1, 1, 1, 1, 0]
    assert [s.is_warmup for s in series] == [True, False, False, False, False]
    assert [s.is_drain for s in series] == [False, False, False, False, True]
    assert [round(s.max_s, 6) for s in series] == [0.5, 0, 0, 2.6, 0.6]


@pytest.mark.parametrize(
    ("requests", "p50_s", "p99_s"), [(1, None, None), (2, 0.01, None), (99, 0.5, None), (100, 0.5, 0.99)]
)
def test_a_second_has_the_percentiles_that_its_requests_can_tell(
    requests: int, p50_s: float | None, p99_s: float | None
) -> None:
    """Its p99 needs a hundred requests that ended in it; the longest is there from one on."""
    recorder = Recorder(BEGAN_S, warmup_s=0)
    for number in range(requests):
        recorder.started(BEGAN_S)
        recorder.ended(ended(0, (number + 1) / 100 - 1e-9))
    (second,) = recorder.finish(BEGAN_S + 1).series
    assert (second.p50_s, second.p99_s, second.max_s) == pytest.approx((p50_s, p99_s, requests / 100))


def test_whoever_listens_hears_of_each_second_once() -> None:
    """The live line and the histogram log get a second when it is over, with the latencies that it counted."""
    heard: list[tuple[float, list[float]]] = []
    recorder = Recorder(BEGAN_S, warmup_s=0.0, on_second=lambda s, times_s: heard.append((s.at_s, list(times_s))))
    recorder.started(BEGAN_S)
    recorder.ended(ended(0, 0.5))
    recorder.tick(BEGAN_S + 2.5)
    recorder.tick(BEGAN_S + 2.6)
    assert heard == [(0, [0.5]), (1, [])]


def steady(per_second: Sequence[int], requests: int = 1000) -> list[Second]:
    """Return seconds in which so many instances were stored, by many requests."""
    return [second(float(n), count, requests=requests) for n, count in enumerate(per_second)]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (steady([1000] * 10), True),
        (steady([1000] * 9), False),
        (steady([1000] * 5 + [1090] * 5), True),
        (steady([1000] * 5 + [1120] * 5), False),
        (steady([1000] * 5 + [880] * 5), False),
        (steady([0] * 5 + [1000] * 5), False),
        (steady([0] * 20), False),
        (steady([9] * 5 + [1000] * 10), True),
        (steady([1000] * 5 + [1500] * 5, requests=1), True),
        (steady([1000] * 5 + [9000] * 5, requests=1), False),
    ],
    ids=[
        "steady",
        "too early",
        "grows by 9 %",
        "grows by 12 %",
        "falls by 12 %",
        "has begun",
        "stores nothing",
        "was slow at first",
        "few requests vary",
        "few requests, and yet",
    ],
)
def test_settled_is_what_no_longer_changes(series: list[Second], expected: bool) -> None:
    """The last five seconds are as good as the five before, within 10 % or what so few requests vary by."""
    assert has_settled(series) is expected


def test_the_warm_up_ends_when_goodput_has_settled() -> None:
    """Ten steady seconds are the least, and they are warm-up; from then on everything counts."""
    requests = [ended(n / 10, n / 10 + 0.05) for n in range(200)]
    found = measured(requests, warmup_s=None, stop_s=20)
    assert (found.warmup_s, found.elapsed_s, found.is_settled) == (10, 10, True)
    assert (found.warmup_instances, found.instances) == (1000, 1000)
    assert [s.is_warmup for s in found.series] == [True] * 10 + [False] * 10


def test_a_warm_up_has_an_end() -> None:
    """A server that never settles is measured from a minute on, and said to be such."""
    growing = [ended(n + 0.5, n + 0.6, instances=int(10 * 1.1**n)) for n in range(80)]
    requests = [replace(request, ended_s=request.ended_s + k / 10_000) for request in growing for k in range(100)]
    found = measured(requests, warmup_s=None, stop_s=80)
    assert (found.warmup_s, found.elapsed_s, found.is_settled) == (60, 20, False)


def test_a_load_that_ends_in_its_warm_up_measured_nothing() -> None:
    """No figure is made of what was to be left out."""
    found = measured([ended(1, 2)], warmup_s=30, stop_s=10)
    point = merge(LOAD, [found])
    assert (point.elapsed_s, point.instances, point.instances_per_s, point.is_settled) == (0, 0, 0, False)
    assert point.warmup_instances == 10


def test_repeats_are_merged_with_their_spread() -> None:
    """Counts and times add up, each repeat keeps its goodput, and the series go on one after the other."""
    first = measured([ended(1, 2), ended(2, 3)])
    other = measured([ended(1, 5, errors={"500": 1})])
    point = merge(LOAD, [first, other])
    assert (point.elapsed_s, point.instances, point.requests) == (20, 30, 3)
    assert list(point.goodputs_per_s) == [2, 1]
    assert point.spread == pytest.approx(1 / 1.5)
    assert point.errors == {"500": 1}
    assert [latency.count for latency in point.repeat_latencies] == [2, 1]
    assert (point.latency.count, point.latency.max_s) == (3, 4)
    assert [s.at_s for s in point.series] == list(range(20))
    assert [s.repeat for s in point.series] == [0] * 10 + [1] * 10


@st.composite
def runs(draw: st.DrawFn) -> list[RecordedRequest]:
    """Requests in the order of their ends, some of them failed."""
    requests = []
    for start_s, length_s, stored, failed in draw(
        st.lists(st.tuples(st.floats(0, 10), st.floats(0, 20), st.integers(0, 9), st.integers(0, 9)), max_size=40)
    ):
        errors = {"500": failed} if failed else {}
        requests.append(ended(start_s, start_s + length_s, instances=stored, errors=errors))
    return sorted(requests, key=lambda request: request.ended_s)


@given(runs(), st.floats(0, 12), st.floats(1, 12))
@settings(deadline=None)
def test_nothing_is_lost_or_counted_twice(requests: list[RecordedRequest], warmup_s: float, stop_s: float) -> None:
    """Every stored instance is of the warm-up, the load or the drain; the seconds have them all; times match counts."""
    recorder = Recorder(BEGAN_S, warmup_s=warmup_s)
    events = sorted(
        [(r.started_s, 0, r) for r in requests] + [(r.ended_s, 1, r) for r in requests], key=lambda e: e[:2]
    )
    is_stopped = False
    for at_s, is_end, request in events:
        if not is_stopped and at_s >= BEGAN_S + stop_s:
            recorder.stop(BEGAN_S + stop_s)
            is_stopped = True
        if is_end:
            recorder.ended(request)
        else:
            recorder.started(at_s)
    if not is_stopped:
        recorder.stop(BEGAN_S + stop_s)
    found = recorder.finish(BEGAN_S + 40)
    stored = sum(request.instances for request in requests)
    assert found.warmup_instances + found.instances + found.drained_instances == stored
    assert sum(s.instances for s in found.series) == stored
    assert sum(s.requests for s in found.series) == len(requests)
    assert [s.at_s for s in found.series] == list(range(len(found.series)))
    assert all(s.in_flight >= 0 for s in found.series)
    cold_failures = sum(not r.instances and r.intended_s < BEGAN_S + warmup_s for r in requests)
    counted = found.latency.count + found.warmup_latency.count + found.failed.count
    assert counted == len(requests) - cold_failures


def test_a_warm_up_can_be_ended() -> None:
    """By whoever knows that it is over; what came until then is kept apart."""
    recorder = Recorder(BEGAN_S, warmup_s=None)
    for request in (ended(0, 1), ended(1, 2)):
        recorder.started(request.started_s)
        recorder.ended(request)
    assert recorder.warmup_s is None
    recorder.warm(BEGAN_S + 2)
    recorder.started(BEGAN_S + 2)
    recorder.ended(ended(2, 3))
    recorder.stop(BEGAN_S + 10)
    found = recorder.finish(BEGAN_S + 10)
    assert (found.warmup_s, found.elapsed_s, found.is_settled) == (2, 8, True)
    assert (found.warmup_instances, found.instances) == (20, 10)


def test_the_figures_can_be_had_meanwhile() -> None:
    """They are those until then, and what comes later does not change their counts."""
    recorder = Recorder(BEGAN_S, warmup_s=2.0)
    for request in (ended(1, 1.5), ended(3, 4)):
        recorder.started(request.started_s)
        recorder.ended(request)
    so_far = recorder.so_far(BEGAN_S + 6)
    recorder.started(BEGAN_S + 6)
    recorder.ended(ended(6, 7, instances=0, errors={"HTTP 503": 10}))
    recorder.stop(BEGAN_S + 8)
    assert (so_far.warmup_s, so_far.elapsed_s, so_far.instances, len(so_far.series)) == (2, 4, 10, 6)
    assert so_far.errors == {}
    assert recorder.finish(BEGAN_S + 8).errors == {"HTTP 503": 10}


def test_a_second_has_the_memory_at_its_end() -> None:
    """What was told last."""
    recorder = Recorder(BEGAN_S, warmup_s=0.0)
    recorder.memory(100)
    recorder.tick(BEGAN_S + 1)
    recorder.memory(120)
    recorder.stop(BEGAN_S + 3)
    assert [second.rss_bytes for second in recorder.finish(BEGAN_S + 3).series] == [100, 120, 120]
