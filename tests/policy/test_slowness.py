"""Whether storage is slow, learned from reads."""

from __future__ import annotations

import pytest

from bulkstow.policy.slowness import QUICK_READS, SLOW_READS, Slowness


@pytest.mark.parametrize(
    ("reads", "is_slow"),
    [
        ("S" * (SLOW_READS - 1), False),
        ("S" * SLOW_READS, True),
        (("S" * (SLOW_READS - 1) + "q") * 9, False),
        ("S" * SLOW_READS + "q" * (QUICK_READS - 1), True),
        ("S" * SLOW_READS + "q" * QUICK_READS, False),
        ("S" * SLOW_READS + ("q" * (QUICK_READS - 1) + "S") * 3, True),
        ("q" * QUICK_READS + "S" * SLOW_READS + "q", True),
        ("S" * SLOW_READS + "q" * QUICK_READS + "S" * SLOW_READS, True),
    ],
)
def test_only_reads_in_a_row_change_it(reads: str, is_slow: bool) -> None:
    """Several slow reads in a row (S) begin it, many quick ones in a row (q) end it."""
    slowness = Slowness()
    for read in reads:
        slowness.note_slow(was_slow=read == "S")
        slowness.note_quick(was_quick=read == "q")
    assert slowness.is_slow is is_slow


def test_prefetched_reads_do_not_end_it() -> None:
    """Reads that are quick because of prefetches only do not count as slow."""
    slowness = Slowness()
    for _ in range(SLOW_READS):
        slowness.note_slow(was_slow=True)
    for _ in range(2 * QUICK_READS):
        slowness.note_slow(was_slow=False)
    assert slowness.is_slow
