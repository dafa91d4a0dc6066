"""How long a measurement still takes."""

from __future__ import annotations

import pytest

from bulkstow.bench.driver import FILL_S, LoadPhase
from bulkstow.bench.load_plan import TimeLeft, of_load_s
from bulkstow.bench.recorder import SETTLE_S
from bulkstow.bench.result import Load


def phase(duration_s: float = 30.0, warmup_s: float | None = 5.0, rounds: int = 0) -> LoadPhase:
    """Return a load."""
    return LoadPhase(Load(1, connections=1), 1, duration_s, warmup_s, rounds=rounds)


@pytest.mark.parametrize(
    ("of", "elapsed_s", "warmup_took_s", "left_s"),
    [
        (phase(), 0.0, 5.0, 35.0),
        (phase(), 12.0, 5.0, 23.0),
        (phase(), 40.0, 5.0, 0.0),
        (phase(warmup_s=None), 0.0, None, 2 * SETTLE_S + 30),
        (phase(warmup_s=None), 25.0, None, 30.0),
        (phase(warmup_s=None), 25.0, 20.0, 25.0),
        (phase(warmup_s=None, rounds=3), 0.0, None, FILL_S + 30),
    ],
)
def test_what_is_left_of_a_load(of: LoadPhase, elapsed_s: float, warmup_took_s: float | None, left_s: float) -> None:
    """Its warm-up and its duration less what has passed; one that has not settled in time still has its duration."""
    assert of_load_s(of, elapsed_s, warmup_took_s) == left_s


def test_what_is_left_of_a_run() -> None:
    """The loads to come are expected to last as planned, then as those before them, with what deleting takes."""
    left = TimeLeft(phase())
    assert left.of_run_s(10.0, 0) == 10
    assert left.of_run_s(10.0, 2) == 10 + 2 * 35
    left.load_took(39.0)
    left.load_took(41.0)
    left.cleanup_took(3.0)
    assert left.of_run_s(10.0, 2) == 10 + 2 * 40 + 3 * 3
    left.load_took(1.0)
    assert left.of_run_s(0.0, 1) == 35 + 2 * 3
