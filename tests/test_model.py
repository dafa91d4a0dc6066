"""The words for what became of a file, and sums over values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkstow.model import Batch, Candidate, Instance, Outcome, Summary
from tests.archives import header


@pytest.mark.parametrize(
    ("outcome", "is_success", "is_failure"),
    [
        (Outcome.STORED, True, False),
        (Outcome.WARNED, True, False),
        (Outcome.DUPLICATE, True, False),
        (Outcome.REFUSED, False, True),
        (Outcome.UNCONFIRMED, False, True),
        (Outcome.CONFLICT, False, True),
        (Outcome.MISSING, False, True),
        (Outcome.UNREADABLE, False, True),
        (Outcome.SKIPPED, False, False),
    ],
)
def test_fates(outcome: Outcome, is_success: bool, is_failure: bool) -> None:
    """The server has it, or the run fails, or there was nothing to send."""
    assert (outcome.is_success, outcome.is_failure) == (is_success, is_failure)


def test_there_is_no_other_fate() -> None:
    """The words of ledger, report, summary and exit status are these."""
    words = ["stored", "warned", "duplicate", "refused", "unconfirmed", "conflict", "missing", "unreadable", "skipped"]
    assert [str(outcome) for outcome in Outcome] == words


def test_the_size_of_a_batch_is_its_files() -> None:
    """Framing is not counted."""
    instances = tuple(Instance(Candidate(f"/archive/{size}", size, 0), header(size)) for size in (0, 5, 7))
    assert Batch(1, instances).size_bytes == 12


def test_a_summary_counts_failures() -> None:
    """Refused, unconfirmed, conflict, missing and unreadable make a run fail; skipped and accepted ones do not."""
    results = {outcome: 10**place for place, outcome in enumerate(Outcome)}
    summary = Summary("http://pacs", results, complete=True)
    assert summary.failures == 11_111_000
    assert replace(summary, accepted=11).failures == 11_110_989
