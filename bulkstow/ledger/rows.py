"""A file's row in the ledger, as values: written from outcomes, and checked when it is read.

A database file may be damaged in ways that SQLite does not notice: whatever a row holds that was never written so is an
error, and never an outcome.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from bulkstow.model import Candidate, FileResult, Header, Instance, Outcome

COLUMNS = (
    "path, size_bytes, version, study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, "
    "outcome, reason, attempts, copy_of"
)

COLUMN_COUNT = len(COLUMNS.split(", "))

INSTANCE_COLUMNS = ", ".join(COLUMNS.split(", ")[:8])

OUTCOMES: dict[object, Outcome] = {outcome.value: outcome for outcome in Outcome}
"""By the word in the ledger; a look-up costs a quarter of what `Outcome(…)` does."""

SUCCESSES = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.is_success)


class DamagedRow(ValueError):
    """A row holds what was never written so; the text says what."""


def as_row(result: FileResult) -> tuple[object, ...]:
    """Return the values of COLUMNS."""
    candidate, header = result.candidate, result.header
    uids: tuple[str | None, ...] = (None,) * 5
    if header is not None:
        uids = (
            header.study_uid,
            header.series_uid,
            header.sop_instance_uid,
            header.sop_class_uid,
            header.transfer_syntax_uid,
        )
    return (
        os.fsencode(candidate.location),
        candidate.size_bytes,
        as_kept(candidate.version),
        *uids,
        result.outcome.value,
        result.reason.encode(errors="backslashreplace").decode(),  # it may hold a path
        result.attempts,
        os.fsencode(result.copy_of) if result.copy_of else None,
    )


def as_kept(version: int | str) -> int | bytes:
    """Return a version as the ledger keeps it.

    A time is kept within SQLite's 64 bits, as a damaged file system dates files after 2262 too. A text is kept as its
    bytes: SQLite would store a text of digits as a number, and "007" as 7.
    """
    if isinstance(version, str):
        return version.encode(errors="surrogatepass")
    return max(-(2**63), min(version, 2**63 - 1))


def as_result(row: Sequence[Any]) -> FileResult:
    """Return the outcome that COLUMNS hold. Raises DamagedRow."""
    *_, outcome, reason, attempts, copy_of = row
    if outcome not in OUTCOMES:
        raise DamagedRow(f"an outcome {outcome!r}")
    if type(reason) is not str or type(attempts) is not int or type(copy_of) not in (bytes, type(None)):
        raise DamagedRow("a reason, a count or a path of another type")
    candidate, header = _candidate(row), _header(row)
    if header is None and OUTCOMES[outcome].is_success:
        raise DamagedRow(f"{outcome} without UIDs")
    return FileResult(
        candidate, header, OUTCOMES[outcome], reason, attempts, "" if copy_of is None else os.fsdecode(copy_of)
    )


def as_instance(row: Sequence[Any]) -> Instance:
    """Return the instance that INSTANCE_COLUMNS hold. Raises DamagedRow."""
    header = _header(row)
    if header is None:
        raise DamagedRow("no UIDs")
    return Instance(_candidate(row), header)


def _candidate(row: Sequence[Any]) -> Candidate:
    path, size_bytes, version = row[:3]
    if type(path) is not bytes or type(size_bytes) is not int or type(version) not in (int, bytes):
        raise DamagedRow("a path, a size or a version of another type")
    if type(version) is bytes:
        try:
            version = version.decode(errors="surrogatepass")
        except UnicodeDecodeError:
            raise DamagedRow("a version that is no text") from None
    return Candidate(os.fsdecode(path), size_bytes, version)


def _header(row: Sequence[Any]) -> Header | None:
    uids = row[3:8]
    if all(uid is None for uid in uids):
        return None
    if not all(type(uid) is str for uid in uids):
        raise DamagedRow("a UID of another type")
    return Header(*uids)
