"""Outcomes that another pass of a watching run may change."""

from __future__ import annotations

import pytest

from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.watching import may_succeed_later, replaces

FILE = Candidate("/in/a", 1, 1)


@pytest.mark.parametrize(
    ("outcome", "reason", "copy_of", "expected"),
    [
        (Outcome.UNREADABLE, "cannot be read: Input/output error", "", True),
        (Outcome.UNREADABLE, "cannot be looked at: the storage has not answered for 5m", "", True),
        (Outcome.UNREADABLE, "a directory that cannot be listed: Stale file handle", "", True),
        (Outcome.UNREADABLE, "cannot be compared with /b, which has the same SOP Instance UID: …", "/b", True),
        (Outcome.UNREADABLE, "cut off in its head", "", False),
        (Outcome.UNREADABLE, "changed while it was sent: its modification time is new", "", False),
        (Outcome.UNCONFIRMED, "no connection", "", True),
        (Outcome.REFUSED, "HTTP 400 (no reason given)", "", False),
        (Outcome.CONFLICT, "the same SOP Instance UID as /b, other bytes", "/b", False),
        (Outcome.SKIPPED, "not DICOM", "", False),
        (Outcome.SKIPPED, "a second copy of the SOP instance, same bytes: see /b", "/b", True),
    ],
)
def test_what_may_be_of_the_moment(outcome: Outcome, reason: str, copy_of: str, *, expected: bool) -> None:
    """Failures of the storage and of the server are tried again; those of the content only if the file changes."""
    assert may_succeed_later(FileResult(FILE, None, outcome, reason, copy_of=copy_of)) is expected


def test_a_result_of_the_scan_is_recorded_again_only_if_it_differs() -> None:
    """The scans of a day find the same link to nothing each time."""
    link = FileResult(FILE, None, Outcome.UNREADABLE, "a link to nothing: /x")
    assert replaces(link, None)
    assert not replaces(link, link)
    assert replaces(link, FileResult(FILE, None, Outcome.SKIPPED, "a socket, not a regular file"))
