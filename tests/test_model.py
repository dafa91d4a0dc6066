"""The words for what became of a file, and sums over values."""

from __future__ import annotations

import pytest

from bulkstow.model import Batch, Candidate, Fate, Instance, Summary
from tests.archives import header


@pytest.mark.parametrize(
    ("fate", "is_success", "is_failure"),
    [
        (Fate.STORED, True, False),
        (Fate.WARNED, True, False),
        (Fate.DUPLICATE, True, False),
        (Fate.REFUSED, False, True),
        (Fate.UNCONFIRMED, False, True),
        (Fate.CONFLICT, False, True),
        (Fate.UNREADABLE, False, True),
        (Fate.SKIPPED, False, False),
    ],
)
def test_fates(fate: Fate, is_success: bool, is_failure: bool) -> None:
    """The server has it, or the run fails, or there was nothing to send."""
    assert (fate.is_success, fate.is_failure) == (is_success, is_failure)


def test_there_is_no_other_fate() -> None:
    """The words of ledger, report, summary and exit status are these."""
    words = ["stored", "warned", "duplicate", "refused", "unconfirmed", "conflict", "unreadable", "skipped"]
    assert [str(fate) for fate in Fate] == words


def test_the_size_of_a_batch_is_its_files() -> None:
    """Framing is not counted."""
    instances = tuple(Instance(Candidate(f"/archive/{size}", size, 0), header(size)) for size in (0, 5, 7))
    assert Batch(1, instances).size_bytes == 12


def test_a_summary_counts_failures() -> None:
    """Refused, unconfirmed, conflict and unreadable make a run fail; skipped does not."""
    outcomes = {fate: 10**place for place, fate in enumerate(Fate)}
    summary = Summary("http://pacs", outcomes, 0, 0, 0, 0, 0.0, concurrency=4, complete=True)
    assert summary.failures == 1_111_000
