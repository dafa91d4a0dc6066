from __future__ import annotations

import pytest

from benchmarks.slowed import Latency

LATENCY = Latency(stat_s=0.1, open_s=0.2, read_s=0.3, hang_s=2.0, hang_every=3)


@pytest.mark.parametrize(
    ("call", "seconds"),
    [
        ("stat", [0.1, 0.1, 2.0, 0.1]),
        ("open", [0.2, 0.2, 2.0, 0.2]),
        ("read", [0.3, 0.3, 2.0, 0.3]),
        ("list", [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_each_sort_of_call_takes_its_time_and_one_of_so_many_hangs(call: str, seconds: list[float]) -> None:
    """The hanging one is counted for each sort by itself; listing a directory is free."""
    assert [LATENCY.of(call, number) for number in (1, 2, 3, 4)] == seconds


def test_nothing_hangs_unless_it_is_asked_for() -> None:
    """Zero is no call, not every call."""
    assert Latency(open_s=0.2).of("open", 500) == 0.2
