"""Claims about sizes, times, rates, spans and hours: as they are written, and as they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import ConfigurationError
from bulkstow.quantities import (
    AUTO,
    Hours,
    Shard,
    Span,
    Timetable,
    parse_duration_s,
    parse_rate_bytes_per_s,
    parse_shard,
    parse_size_bytes,
    parse_span,
    parse_timetable,
    show_duration,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("4096", 4096),
        ("7B", 7),
        ("1kB", 1000),
        ("500MB", 500 * 10**6),
        ("1.5 GB", 1_500_000_000),
        ("2TB", 2 * 10**12),
        ("1KiB", 1024),
        ("16MiB", 16 * 2**20),
        ("16mib", 16 * 2**20),
        (" 0.5 GiB ", 2**29),
        ("1TiB", 2**40),
    ],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    """Powers of ten and of two, in either case, with a space or without."""
    assert parse_size_bytes(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1", "1,5GB", "16M", "16 MiB s", "1e6", "0x10", ".5GB", "5.GB", "unlimited", "٣MB", "9" * 400, "30s"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """Anything else is a ValueError that shows what is expected."""
    with pytest.raises(ValueError, match="a size such as 16MiB, 500MB or 4096"):
        parse_size_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("90", 90), ("30s", 30), ("500ms", 0.5), ("5m", 300), ("5min", 300), ("1.5h", 5400), ("2 D", 172_800), ("0", 0)],
)
def test_times_are_read(text: str, expected_s: float) -> None:
    """Seconds where there is no unit."""
    assert parse_duration_s(text) == expected_s


@pytest.mark.parametrize("text", ["", "s", "-1s", "5 weeks", "1h30m", "1:30", "inf", "nan", "9" * 400, "16MiB"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything else is a ValueError that shows what is expected."""
    with pytest.raises(ValueError, match="a time such as 30s, 5m or 500ms"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (None, "unlimited"),
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1KiB"),
        (1536, "1.54kB"),
        (999_499, "999kB"),
        (999_700, "1000kB"),
        (10**6, "1MB"),
        (16 * 2**20, "16MiB"),
        (1_052_000_000, "1.05GB"),
        (3 * 2**30, "3GiB"),
        (2**40, "1TiB"),
        (512_000_000, "512MB"),
        (1.5 * 10**12, "1.5TB"),
        (1_234_567 * 10**9, "1235TB"),
    ],
)
def test_sizes_are_shown(size_bytes: float | None, expected: str) -> None:
    """A power of two where it is one, else three digits, and never an exponent."""
    assert show_size(size_bytes) == expected


@given(st.integers(0, 10**18))
def test_a_size_shown_is_read_as_the_same_to_three_digits(size_bytes: int) -> None:
    """What a person reads may be typed in again."""
    assert parse_size_bytes(show_size(size_bytes)) == pytest.approx(size_bytes, rel=0.005)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0, "0ms"),
        (0.85, "850ms"),
        (1, "1s"),
        (12.34, "12.3s"),
        (60, "1m"),
        (245, "4m05s"),
        (3599.6, "1h"),
        (3600, "1h"),
        (12_000, "3h20m"),
        (90_000, "25h"),
    ],
)
def test_times_are_shown(duration_s: float, expected: str) -> None:
    """Two units at most."""
    assert show_duration(duration_s) == expected


@given(st.floats(0.001, 59))
def test_a_time_shown_is_read_as_the_same_to_three_digits(duration_s: float) -> None:
    """Times below a minute, as defaults are, may be typed in again."""
    assert parse_duration_s(show_duration(duration_s)) == pytest.approx(duration_s, rel=0.005, abs=0.0005)


@pytest.mark.parametrize(
    ("text", "span", "shown"),
    [
        ("auto", AUTO, "auto"),
        ("8", Span(8, 8), "8"),
        ("2-32", Span(2, 32), "2-32"),
        (" 2 - 4 ", Span(2, 4), "2-4"),
        ("5-5", Span(5, 5), "5"),
    ],
)
def test_spans(text: str, span: Span, shown: str) -> None:
    """'auto', just one number, or from one to another; shown as it is given."""
    assert parse_span(text) == span
    assert str(span) == shown


@pytest.mark.parametrize("text", ["", "many", "2-", "-2", "1.5", "2-4-8", "99999"])
def test_what_is_no_span(text: str) -> None:
    """Anything else is told with what was expected."""
    with pytest.raises(ValueError, match="is not 'auto', a whole number, or a span such as 2-32"):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "words"), [("0", "--concurrency 0: expected more than 0"), ("8-2", "smaller number first")]
)
def test_spans_with_nothing_in_them(text: str, words: str) -> None:
    """A span begins at one and ends no lower than it begins."""
    with pytest.raises(ConfigurationError, match=words):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50MiB/s", 50 * 2**20),
        ("50 MiB/S", 50 * 2**20),
        ("1.5GB/s", 1_500_000_000),
        ("100B/s", 100),
        ("400Mbit/s", 50_000_000),
        ("400mbit/s", 50_000_000),
        ("1 Gbit/s", 125_000_000),
        ("8kbit/s", 1000),
        (" unlimited ", None),
    ],
)
def test_rates_are_read(text: str, expected: float | None) -> None:
    """Sizes a second and bits a second; unlimited is none."""
    assert parse_rate_bytes_per_s(text) == expected


@pytest.mark.parametrize("text", ["", "50", "50/s", "50MiB", "400Mb/s", "400mb/s", "8b/s", "50MiB/m", "-1MB/s", "/s"])
def test_what_is_no_rate(text: str) -> None:
    """Anything else is refused, and so is a b that may be bits or bytes."""
    with pytest.raises(ValueError, match="a rate such as 50MiB/s, 400Mbit/s or unlimited"):
        parse_rate_bytes_per_s(text)


HOUR_S = 3600


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1MB/s", {0: 10**6, 12: 10**6, 23.99: 10**6}),
        ("08:00-18:00=1MB/s", {7.99: None, 8: 10**6, 17.99: 10**6, 18: None}),
        ("8:00 - 18:30=1MB/s , 2MB/s", {0: 2 * 10**6, 18.49: 10**6, 18.5: 2 * 10**6}),
        ("2MB/s,08:00-18:00=unlimited", {7: 2 * 10**6, 8: None, 18: 2 * 10**6}),
        ("22:00-06:00=1MB/s", {21.99: None, 22: 10**6, 0: 10**6, 5.99: 10**6, 6: None}),
        ("18:00-24:00=1MB/s", {17: None, 18: 10**6, 23.99: 10**6, 0: None}),
        ("00:00-24:00=1MB/s", {0: 10**6, 23.99: 10**6}),
        ("06:00-12:00=1MB/s,12:00-18:00=2MB/s", {5: None, 11.99: 10**6, 12: 2 * 10**6, 18: None}),
    ],
)
def test_timetables(text: str, rates: dict[float, float | None]) -> None:
    """Each hour has its rate, from its beginning to just before its end; all others have the one without a time."""
    timetable = parse_timetable(text)
    assert timetable is not None
    assert {hour: timetable.rate_at(hour * HOUR_S) for hour in rates} == rates
    assert str(timetable) == text
    assert parse_timetable(str(timetable)) == timetable


def test_unlimited_is_no_timetable() -> None:
    """Who asks for no limit has none to ask."""
    assert parse_timetable(" unlimited ") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a rate such as"),
        ("08:00-18:00", "a rate such as"),
        ("08:00-18:00=", "a rate such as"),
        ("08:00-18:00=1MB/s,", "a rate such as"),
        ("=1MB/s", "is not a time of day such as 08:00-18:00 or 22:00-06:00"),
        ("8-18=1MB/s", "is not a time of day"),
        ("08:00-18:60=1MB/s", "is not a time of day"),
        ("24:00-06:00=1MB/s", "is not a time of day"),
        ("08:00-24:01=1MB/s", "is not a time of day"),
        ("1MB/s,2MB/s", "has 2 rates without a time: expected one at most"),
    ],
)
def test_what_is_no_timetable(text: str, words: str) -> None:
    """What is wrong is told, and what was expected."""
    with pytest.raises(ValueError, match=words):
        parse_timetable(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0MB/s", "--bandwidth 0: expected more than 0"),
        ("08:00-18:00=0B/s", "--bandwidth 0: expected more than 0"),
        ("08:00-08:00=1MB/s", "a time of day ends as it begins"),
        ("08:00-18:00=1MB/s,17:00-19:00=2MB/s", "two of its times overlap"),
        ("22:00-06:00=1MB/s,05:00-07:00=2MB/s", "two of its times overlap"),
        ("08:00-18:00=1MB/s,08:00-18:00=2MB/s", "two of its times overlap"),
    ],
)
def test_timetables_that_cannot_be_kept(text: str, words: str) -> None:
    """No rate lets nothing through, no time is empty, and no hour has two rates."""
    with pytest.raises(ConfigurationError, match=words):
        parse_timetable(text)


@given(st.integers(0, 24 * 60 - 1), st.integers(0, 24 * 60), st.floats(0, 24 * HOUR_S, exclude_max=True))
def test_a_time_and_what_is_left_of_the_day(begin: int, end: int, now_s: float) -> None:
    """Every moment is in a stretch of the day or in the one from its end to its beginning, never in both."""
    if begin in (end, end % (24 * 60)):
        return
    one, other = Hours(begin * 60, end * 60, 1.0), Hours(end % (24 * 60) * 60, begin * 60, 2.0)
    assert Timetable((one, other)).rate_at(now_s) == (1.0 if now_s in one else 2.0)
    assert (now_s in one) != (now_s in other)


@pytest.mark.parametrize(
    ("text", "shard"), [("3/16", Shard(3, 16)), (" 1 / 1 ", Shard(1, 1)), ("016/016", Shard(16, 16))]
)
def test_shards(text: str, shard: Shard) -> None:
    """A shard is a number and how many there are; it is shown as it is written."""
    assert parse_shard(text) == shard
    assert str(shard) == f"{shard.number}/{shard.count}"


@pytest.mark.parametrize("text", ["3", "3/", "/16", "3/16/2", "-1/3", "3:16", "a/b", ""])
def test_what_is_no_shard(text: str) -> None:
    """The message shows the text and an example."""
    with pytest.raises(ValueError, match="is not a shard such as 3/16"):
        parse_shard(text)


@pytest.mark.parametrize("text", ["0/16", "17/16", "0/0", "1/0"])
def test_shards_that_do_not_exist(text: str) -> None:
    """Numbers begin with 1; the message says what to do with an index from 0."""
    with pytest.raises(ConfigurationError, match=f"--shard {text}: expected K/N with K from 1 to N; to"):
        parse_shard(text)
