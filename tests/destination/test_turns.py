"""Claims about the measured time of turns; `test_body` has those about the bytes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bulkstow.destination.turns import Stopwatch


def test_what_is_under_way_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that hangs counts before it ends; the time between two reads does not count."""
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr("bulkstow.destination.turns.time", SimpleNamespace(perf_counter=lambda: clock.now_s))
    reading = Stopwatch()
    found_s = []
    for _ in range(2):
        with reading:
            clock.now_s += 3.0
            found_s.append(reading.elapsed_s)
        clock.now_s += 50.0
        found_s.append(reading.elapsed_s)
    assert found_s == [3.0, 3.0, 6.0, 6.0]


def test_a_read_that_fails_has_taken_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a read that fails counts, and ends with it."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("bulkstow.destination.turns.time", SimpleNamespace(perf_counter=lambda: clock.now_s))
    reading = Stopwatch()

    def read() -> None:
        with reading:
            clock.now_s += 2.0
            raise OSError("bad sector")

    with pytest.raises(OSError, match="bad sector"):
        read()
    clock.now_s += 50.0
    assert reading.elapsed_s == 2.0
