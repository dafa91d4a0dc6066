"""The words for what became of a file, and sums over values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkstow.model import Batch, Candidate, FileResult, Instance, Outcome, Summary
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


@pytest.mark.parametrize(
    ("reason", "copy_of", "kind"),
    [
        ("", "", ""),
        ("not DICOM", "", "not DICOM"),
        ("HTTP 400 (0xA900): no such class", "", "HTTP 400 (0xA900)"),
        ("the same UID as /a/b c, other bytes", "/a/b c", "the same UID as another file, other bytes"),
        ("a second copy, same bytes: see /a/b", "/a/b", "a second copy, same bytes"),
        ("the server may have kept /a/b, which has the same UID", "", "the server may have kept …"),
    ],
)
def test_the_kind_of_a_reason_names_no_file(reason: str, copy_of: str, kind: str) -> None:
    """Files with the same kind of reason can be counted together, so their number does not grow with the archive."""
    result = FileResult(Candidate("/a/c", 1, 1), None, Outcome.SKIPPED, reason, copy_of=copy_of)
    assert result.reason_kind == kind
