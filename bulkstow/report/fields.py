"""Columns of reports, as CSV and JSON have them: a value of each row by its name, None for an unknown one."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from bulkstow.ledger import Entry
from bulkstow.model import FileResult, Outcome
from bulkstow.report.rows import ModalityRow, ReasonRow, StudyRow

Fields = dict[str, object]

KEPT_TIMES = 1024
"""Times that are not converted again: the files of a request share theirs."""

FILE_COLUMNS = (
    "path",
    "sop_instance_uid",
    "outcome",
    "reason",
    "attempts",
    "size_bytes",
    "study_uid",
    "series_uid",
    "destination",
    "modality",
    "study_date",
    "recorded_at",
    "sha256",
    "verified_level",
    "verified_at",
    "accepted",
    "original_sop_instance_uid",
    "original_study_uid",
    "original_series_uid",
)
STUDY_COLUMNS = (
    "study_uid",
    "complete",
    "files",
    "stored",
    "failed",
    "conflicts",
    "missing",
    "skipped",
    "accepted",
    "verified",
    "verified_level",
    "modality",
    "study_date",
    "size_bytes",
    "first_at",
    "last_at",
    "destination",
)
REASON_COLUMNS = ("outcome", "reason", "files", "studies", "size_bytes", "accepted", "example")
MODALITY_COLUMNS = ("modality", "studies", "files", "size_bytes", *Outcome, "accepted")


def file_fields(entry: Entry) -> Fields:
    """Return the columns of a file."""
    result, header = entry.result, entry.result.header
    values = (
        result.candidate.location,
        header.sop_instance_uid if header else None,
        result.outcome.value,
        result.reason,
        result.attempts,
        result.size_bytes,
        header.study_uid if header else None,
        header.series_uid if header else None,
        entry.destination,
        header.modality if header else None,
        as_date(header.study_date) if header else None,
        as_time(entry.recorded_at_s),
        result.sha256 or None,
        entry.verified_level or None,
        as_time(entry.verified_at_s),
        result.accepted or None,
        *_original_uids(result),
    )
    return dict(zip(FILE_COLUMNS, values, strict=True))


def _original_uids(result: FileResult) -> list[str | None]:
    """Return the UIDs at the source, each None unless an edit has changed it."""
    sent, original = result.header, result.original
    if sent is None or original is None:
        return [None, None, None]
    pairs = (
        (sent.sop_instance_uid, original.sop_instance_uid),
        (sent.study_uid, original.study_uid),
        (sent.series_uid, original.series_uid),
    )
    return [before if before != after else None for after, before in pairs]


def study_fields(row: StudyRow) -> Fields:
    """Return the columns of a study."""
    values = (
        row.study_uid or None,
        row.is_complete,
        row.files,
        row.stored,
        row.failed,
        row.conflicts,
        row.missing,
        row.skipped,
        row.accepted,
        row.verified,
        row.verified_level or None,
        row.modality or None,
        as_date(row.study_date or None),
        row.size_bytes,
        as_time(row.first_at_s),
        as_time(row.last_at_s),
        row.destination,
    )
    return dict(zip(STUDY_COLUMNS, values, strict=True))


def reason_fields(row: ReasonRow) -> Fields:
    """Return the columns of a kind of reason."""
    values = (
        row.outcome.value,
        row.reason,
        row.files,
        row.studies,
        row.size_bytes,
        row.accepted,
        row.example,
    )
    return dict(zip(REASON_COLUMNS, values, strict=True))


def modality_fields(row: ModalityRow) -> Fields:
    """Return the columns of a modality."""
    values = (
        row.modality,
        row.studies,
        row.files,
        row.size_bytes,
        *(row.outcomes[outcome] for outcome in Outcome),
        row.accepted,
    )
    return dict(zip(MODALITY_COLUMNS, values, strict=True))


@lru_cache(KEPT_TIMES)
def as_time(at_s: int | None) -> str | None:
    """Return a time since 1970 as ISO 8601 in UTC: `2026-11-29T21:40:04Z`."""
    return None if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def as_date(study_date: str | None) -> str | None:
    """Return a date of the ledger, YYYYMMDD, as ISO 8601: `2020-01-31`; an empty one stays empty."""
    return f"{study_date[:4]}-{study_date[4:6]}-{study_date[6:]}" if study_date else study_date
