"""Limits for the exit status."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.bench.result import Percentiles
from bulkstow.bench.threshold import judge, limit_of, parse
from bulkstow.errors import ConfigurationError
from tests.bench.measurements import point, result, times

POINT = point(
    100,
    latency=Percentiles(1000, 0.3, 0.1, 0.5, 1.0, 2.0, 3.0),
    service_time=times(p50_s=0.05, p99_s=0.25),
    errors={"503": 1},
    dropped=9,
)


@pytest.mark.parametrize(
    ("text", "found", "holds"),
    [
        ("p99<2s", 1.0, True),
        ("p99<1s", 1.0, False),
        ("p99<=1s", 1.0, True),
        ("p50<500ms", 0.1, True),
        ("p90 < 400 ms", 0.5, False),
        ("p99.9<2.5s", 2.0, True),
        ("max<1m", 3.0, True),
        ("mean<0.2s", 0.3, False),
        ("service_p99<0.3s", 0.25, True),
        ("service_p50>=100ms", 0.05, False),
        ("errors<0.1%", 1 / 1001, True),
        ("errors<0.05%", 1 / 1001, False),
        ("dropped<1%", 9 / 1010, True),
        ("dropped<=0%", 9 / 1010, False),
        ("instances_per_s>100", 100.0, False),
        ("instances_per_s>=100", 100.0, True),
        ("megabytes_per_s>50", 100.0, True),
        ("requests_per_s>9.5", 10.0, True),
    ],
)
def test_a_limit_holds_or_not(text: str, found: float, holds: bool) -> None:
    """A limit is compared with the best point's figure, and both are told."""
    (judged,) = judge(result(POINT), (parse(text),))
    assert (judged.threshold, judged.holds, judged.note) == (text, holds, "")
    assert judged.found == pytest.approx(found)


@pytest.mark.parametrize("text", ["p99<2s", "errors<1%", "dropped<1%", "searchable_p50<9s", "instances_per_s<5"])
def test_what_was_not_measured_holds_no_limit(text: str) -> None:
    """A server that answered nothing is not quick."""
    nothing = point(0, latency=Percentiles(), service_time=Percentiles())
    (judged,) = judge(result(nothing), (parse(text),))
    assert (judged.holds, judged.note) == (False, "nothing was measured")


@pytest.mark.parametrize(
    ("text", "count", "note"),
    [
        ("p99<2s", 99, "not measurable: p99 needs 100 requests, found 99; a longer --duration has more"),
        ("p99>1ms", 99, "not measurable: p99 needs 100 requests, found 99; a longer --duration has more"),
        ("p99.9<2s", 999, "not measurable: p99.9 needs 1,000 requests, found 999; a longer --duration has more"),
        ("p50<2s", 1, "not measurable: p50 needs 2 requests, found 1; a longer --duration has more"),
    ],
)
def test_a_percentile_of_too_few_requests_holds_no_limit(text: str, count: int, note: str) -> None:
    """Whichever way the limit goes: nothing is known of the percentile, and how many requests it needs is said."""
    (judged,) = judge(result(point(latency=times(count=count))), (parse(text),))
    assert (judged.holds, judged.found, judged.note) == (False, None, note)


@pytest.mark.parametrize("text", ["max<2s", "mean<2s"])
def test_maximum_and_mean_need_one_request(text: str) -> None:
    """They are what they are, of however few."""
    (judged,) = judge(result(point(latency=times(count=1))), (parse(text),))
    assert judged.holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected FIGURE<LIMIT or FIGURE>LIMIT, such as 'p99<2s'"),
        ("p99", "expected FIGURE<LIMIT"),
        ("p99=2s", "expected FIGURE<LIMIT"),
        ("p99<", "expected FIGURE<LIMIT"),
        ("p98<2s", "no figure is called 'p98'; there are mean, p50, "),
        ("wait_p99<2s", "no figure is called 'wait_p99'"),
        ("p99<2", "'2' has no unit: expected a time such as 2s or 500ms"),
        ("p99<2 parsecs", "'2 parsecs' is not a time such as"),
        ("p99<-1s", "'-1s' is not a time"),
        ("errors<1", "'1' is not a share such as 0.1%"),
        ("errors<x%", "'x' is not a share such as 0.1%"),
        ("instances_per_s>fast", "'fast' is not a number a second such as 100"),
        ("instances_per_s>1e3", "'1e3' is not a number a second"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, says: str) -> None:
    """The message repeats the limit and says what was expected."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"--threshold {text!r}: ")
    assert says in str(caught.value)


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Nothing but ConfigurationError comes of it, and what is parsed keeps the user's words."""
    try:
        parsed = parse(text)
    except ConfigurationError as refused:
        said = str(refused)
    else:
        said = f"--threshold {parsed.text!r}: "
    assert said.startswith(f"--threshold {text!r}: ")


@pytest.mark.parametrize(
    ("texts", "limit"),
    [([], 7.0), (["p99<2s"], 2.0), (["p99<2s", "p99<=1s"], 1.0), (["p99>2s"], 7.0), (["p50<2s", "errors<1%"], 7.0)],
)
def test_the_limit_of_a_figure(texts: list[str], limit: float) -> None:
    """The tightest upper one, or what holds where there is none."""
    assert limit_of(map(parse, texts), "p99", 7.0) == limit
