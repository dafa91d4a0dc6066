"""What is shown while it goes on."""

from __future__ import annotations

import io
from datetime import datetime

import pytest

from bulkstow.bench.live import LOG_INTERVAL_S, Live, headed, in_words
from bulkstow.bench.result import Second
from tests.bench.measurements import second


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (second(11, 500, size_bytes=262_144_000), "12s, 500 instances/s, 262 MB/s, 4 in flight, p50 100ms, p99 200ms"),
        (second(0, 0, requests=99, max_s=0.3), "1s, 0 instances/s, 0 MB/s, 4 in flight, p50 100ms, max 300ms"),
        (second(0, 0, requests=1, max_s=0.3), "1s, 0 instances/s, 0 MB/s, 4 in flight, max 300ms"),
        (second(0, 0, requests=0, in_flight=8), "1s, 0 instances/s, 0 MB/s, 8 in flight"),
        (
            second(0, 5, is_warmup=True),
            "1s (warm-up), 5.00 instances/s, 0.00500 MB/s, 4 in flight, p50 100ms, p99 200ms",
        ),
        (second(0, 0, requests=0, errors=1, dropped=3), "1s, 0 instances/s, 0 MB/s, 4 in flight, 1 error, 3 dropped"),
    ],
)
def test_a_second_in_words(of: Second, words: str) -> None:
    """What was stored, what it took, and only what went wrong."""
    assert in_words(of) == words


@pytest.mark.parametrize(
    ("place", "left_s", "shown"),
    [
        ("", None, "words"),
        ("point 13 of 24", None, "point 13 of 24: words"),
        ("point 13 of 24", 219.2, "point 13 of 24, about 3m40s left: words"),
        ("", 0.0, "about 0ms left: words"),
    ],
)
def test_where_a_measurement_is_comes_first(place: str, left_s: float | None, shown: str) -> None:
    """A narrow terminal cuts the end of the line off."""
    assert headed(place, left_s, "words") == shown


def test_a_log_has_a_line_now_and_then() -> None:
    """A line when a load begins, one every few seconds, and what is to be said, each with the time."""
    stream = io.StringIO()
    shown = Live("log", stream)
    shown.stage("a load", "point 2 of 3")
    for at in range(2 * LOG_INTERVAL_S):
        shown.second(second(at), 60.0)
    shown.say("a word")
    shown.close()
    lines = stream.getvalue().splitlines()
    assert all(datetime.fromisoformat(line.partition(" ")[0]).tzinfo for line in lines)
    words = [line.partition(" ")[2] for line in lines]
    assert words[0] == "point 2 of 3: a load"
    heads = [line.partition(", 100")[0] for line in words[1:3]]
    assert heads == [f"point 2 of 3, about 1m left: a load: {at_s}s" for at_s in (10, 20)]
    assert words[3:] == ["a word"]


def test_on_a_terminal_the_lines_change() -> None:
    """They are drawn anew for each second and erased at the end; a message stays above them."""
    stream = io.StringIO()
    shown = Live("bar", stream)
    shown.stage("a load")
    shown.second(second(4))
    shown.say("a word")
    shown.close()
    drawn = stream.getvalue()
    assert "5s, 100 instances/s" in drawn
    assert drawn.index("5s, 100 instances/s") > drawn.index("a load")
    assert "a word\n" in drawn
    assert drawn.endswith("\r\x1b[J")


def test_without_a_terminal_there_are_lines() -> None:
    """And nothing at all where nothing is wanted."""
    stream = io.StringIO()
    Live("auto", stream).say("a word")
    assert stream.getvalue().endswith(" a word\n")
    stream = io.StringIO()
    quiet = Live("none", stream)
    quiet.stage("a load")
    quiet.second(second(9))
    quiet.say("a word")
    quiet.close()
    assert stream.getvalue() == ""
