"""Ledgers and entries for tests of reports."""

from __future__ import annotations

from collections.abc import Iterable

from bulkstow.ledger import Entry
from bulkstow.model import Candidate, FileResult, Header, Outcome

URL = "http://pacs.example/dicom-web"
AT_S = 1_795_000_000
"""2026-11-18T11:06:40Z."""


def header(study: str, number: int, modality: str | None = "CT", study_date: str | None = "20200131") -> Header:
    """Return the head of an instance of a study."""
    return Header(
        study, f"{study}.1", f"{study}.1.{number}", "1.2.840.10008.5.1.4.1.1.2", "1.2.3", modality, study_date
    )


def result(
    path: str, outcome: Outcome, head: Header | None, reason: str = "", *, accepted: str = "", copy_of: str = ""
) -> FileResult:
    """Return the outcome of a file of 1,000 bytes."""
    return FileResult(Candidate(path, 1000, 1), head, outcome, reason, 1, copy_of, accepted=accepted)


def entry(
    found: FileResult, *, at_s: int | None = AT_S, level: str = "", verified_at_s: int | None = None, url: str = URL
) -> Entry:
    """Return a row of a ledger."""
    return Entry(url, found, at_s, level, verified_at_s)


def archive() -> Iterable[Entry]:
    """Return three studies, verified, with failures, and with an accepted failure, and files of no study."""
    for number in range(3):
        stored = result(f"/a/1/{number}", Outcome.STORED, header("1.1", number))
        yield entry(
            stored, at_s=AT_S + number, level="content" if number else "instances", verified_at_s=AT_S + 60 + number
        )
    yield entry(result("/a/2/0", Outcome.WARNED, header("1.2", 0, "MR", "20210203")))
    yield entry(result("/a/2/1", Outcome.REFUSED, header("1.2", 1, "MR", "20210203"), "HTTP 400 (0xA900): no <b>"))
    yield entry(result("/a/2/2", Outcome.MISSING, header("1.2", 2, "SR", "20210203"), "not on the server: gone"))
    why = "the same SOP Instance UID as /a/1/0, other bytes"
    yield entry(result("/a/2/3", Outcome.CONFLICT, header("1.2", 0, "MR", "20210203"), why, copy_of="/a/1/0"))
    yield entry(result("/a/3/0", Outcome.DUPLICATE, header("1.3", 0, None, None)), at_s=None)
    noted = result(
        "/a/3/1", Outcome.REFUSED, header("1.3", 1, None, None), "HTTP 400 (0xA900): no", accepted="a phantom"
    )
    yield entry(noted, at_s=None)
    yield entry(result("/a/bad", Outcome.UNREADABLE, None, "cannot be read: Input/output error"))
    yield entry(result("/a/notes", Outcome.SKIPPED, None, "not DICOM"))
