"""Numbers and loads in words."""

from __future__ import annotations

import pytest

from bulkstow.bench.report.words import counted, duration, figure, load_words, share, short
from bulkstow.bench.result import Load


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (0.0000116, "1.16e-05"),
        (0.003123, "0.00312"),
        (4.167, "4.17"),
        (99.97, "100"),
        (52.34, "52.3"),
        (842.4, "842"),
        (12_345.6, "12,346"),
        (999_999.7, "1M"),
        (1.234e9, "1.23G"),
    ],
)
def test_figure(value: float, words: str) -> None:
    """Three digits count, and a large number stays short enough for a tile."""
    assert figure(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "0.5"), (800, "800"), (999.9, "1k"), (1_234, "1.23k"), (123_456, "123k"), (35e6, "35M")]
)
def test_short(value: float, words: str) -> None:
    """At most six characters, for a tick or a cell."""
    assert short(value) == words


@pytest.mark.parametrize(
    ("elapsed_s", "words"),
    [
        (0, "0ms"),
        (85e-6, "85µs"),
        (0.00099999, "1ms"),
        (0.01234, "12.3ms"),
        (0.9999, "1s"),
        (4.2, "4.2s"),
        (245, "4m05s"),
    ],
)
def test_duration(elapsed_s: float, words: str) -> None:
    """A time below a millisecond is not rounded to none, and none is 1000 of the smaller unit."""
    assert duration(elapsed_s) == words


@pytest.mark.parametrize(
    ("part", "words"), [(0, "0%"), (0.00012, "0.012%"), (0.0031, "0.31%"), (0.14, "14%"), (1, "100%"), (2.5, "250%")]
)
def test_share(part: float, words: str) -> None:
    """A share that is small is not rounded to none."""
    assert share(part) == words


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(1, connections=1), "1 connection, 1 instance a request"),
        (Load(1_000, connections=8), "8 connections, 1,000 instances a request"),
        (Load(4, rate_per_s=12.5), "12.5 instances/s due, 4 instances a request"),
    ],
)
def test_load_words(load: Load, words: str) -> None:
    """Connections of a closed load, the rate of an open one."""
    assert load_words(load) == words


def test_counted() -> None:
    """One is not many."""
    assert [counted(count, "request") for count in (0, 1, 6_315)] == ["0 requests", "1 request", "6,315 requests"]
