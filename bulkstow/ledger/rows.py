"""Rows of the ledger: conversion of outcomes to values and back, with checks.

A database may be damaged in ways that SQLite does not notice. So a value that is never written is an error, not an
outcome.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from bulkstow.model import Candidate, FileResult, Header, Instance, Outcome

COLUMNS = (
    "path, size_bytes, version, study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, "
    "modality, study_date, outcome, reason, attempts, copy_of, sha256, accepted, "
    "sent_bytes, original_study_uid, original_series_uid, original_sop_instance_uid"
)
"""The columns of a result."""

SENT_COLUMNS = COLUMNS.split(", ")[-4:]
"""The columns of an edited instance: its size as sent, and its UIDs at the source."""

COLUMN_COUNT = len(COLUMNS.split(", "))

ALL_COLUMNS = f"{COLUMNS}, recorded_at_s, verified_level, verified_at_s"
"""The columns of a row that a report reads."""

INSTANCE_COLUMNS = ", ".join((*COLUMNS.split(", ")[:10], *SENT_COLUMNS, "sha256"))

OUTCOMES: dict[object, Outcome] = {outcome.value: outcome for outcome in Outcome}
"""By the word in the ledger; a look-up takes a quarter of the time of `Outcome(…)`."""

SUCCESSES = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.is_success)

HEADER_COLUMNS = COLUMNS.split(", ")[3:10]
"""The columns of a head."""

_NO_HEADER = (None,) * len(HEADER_COLUMNS)
_header_columns: Callable[[Header], tuple[str | None, ...]] = attrgetter(*HEADER_COLUMNS)
_SHA256_BYTES = 32


class DamagedRow(ValueError):
    """A row has a value that is never written; the text describes it."""


def as_row(result: FileResult) -> tuple[object, ...]:
    """Return the values of COLUMNS."""
    candidate, header = result.candidate, result.header
    return (
        os.fsencode(candidate.location),
        candidate.size_bytes,
        as_kept(candidate.version),
        *(_NO_HEADER if header is None else _header_columns(header)),
        result.outcome.value,
        result.reason.encode(errors="backslashreplace").decode(),  # it may contain a path
        result.attempts,
        os.fsencode(result.copy_of) if result.copy_of else None,
        bytes.fromhex(result.sha256) if result.sha256 else None,
        result.accepted or None,
        result.sent_bytes,
        *original_uids(result.original),
    )


def as_kept(version: int | str) -> int | bytes:
    """Return a version as the ledger stores it.

    A time is limited to SQLite's 64 bits, because a damaged file system may have dates after 2262. A text is stored as
    its bytes: SQLite would store a text of digits as a number, and "007" as 7.
    """
    if isinstance(version, str):
        return version.encode(errors="surrogatepass")
    return version if -(2**63) <= version < 2**63 else max(-(2**63), min(version, 2**63 - 1))


def as_result(row: Sequence[Any]) -> FileResult:
    """Return the outcome in the values of COLUMNS. Raises DamagedRow."""
    outcome, reason, attempts, copy_of, sha256, accepted = row[10:16]
    if outcome not in OUTCOMES:
        raise DamagedRow(f"an outcome {outcome!r}")
    if type(reason) is not str or type(attempts) is not int or type(copy_of) not in (bytes, type(None)):
        raise DamagedRow("a reason, a count or a path of another type")
    if type(accepted) not in (str, type(None)):
        raise DamagedRow("a note of another type")
    candidate, header = as_candidate(row), as_header(row)
    if header is None and OUTCOMES[outcome].is_success:
        raise DamagedRow(f"{outcome} without UIDs")
    return FileResult(
        candidate,
        header,
        OUTCOMES[outcome],
        reason,
        attempts,
        "" if copy_of is None else os.fsdecode(copy_of),
        _as_digits(sha256),
        accepted or "",
        *_as_sent(row[16:COLUMN_COUNT], header),
    )


def _as_digits(sha256: object) -> str:
    """Return a SHA-256 in hexadecimal digits; empty if there is none. Raises DamagedRow."""
    if sha256 is None:
        return ""
    if type(sha256) is not bytes or len(sha256) != _SHA256_BYTES:
        raise DamagedRow("a SHA-256 of another type or length")
    return sha256.hex()


def _as_sent(values: Sequence[Any], header: Header | None) -> tuple[int | None, Header | None]:
    """Return the number of sent bytes, and the head at the source, in the values of SENT_COLUMNS. Raises DamagedRow."""
    sent_bytes, *uids = values
    if not (sent_bytes is None or type(sent_bytes) is int):
        raise DamagedRow("a number of sent bytes of another type")
    return sent_bytes, original_head(header, uids)


def original_uids(original: Header | None) -> tuple[str, str, str] | tuple[None, None, None]:
    """Return the UIDs at the source of an edited instance; None for each if it was not edited."""
    if original is None:
        return None, None, None
    return original.study_uid, original.series_uid, original.sop_instance_uid


def original_head(header: Header | None, uids: Sequence[str | None]) -> Header | None:
    """Return the head at the source in values of `original_uids`. Raises DamagedRow."""
    if all(uid is None for uid in uids):
        return None
    study_uid, series_uid, sop_instance_uid = uids
    if header is None or not (type(study_uid) is type(series_uid) is type(sop_instance_uid) is str):
        raise DamagedRow("an original UID of another type, or without the one that was sent")
    return replace(header, study_uid=study_uid, series_uid=series_uid, sop_instance_uid=sop_instance_uid)


def as_times(row: Sequence[Any]) -> tuple[int | None, str, int | None]:
    """Return when an outcome was recorded, how it was verified, and when, in the values of ALL_COLUMNS.

    Raises DamagedRow.
    """
    recorded_at_s, level, verified_at_s = row[COLUMN_COUNT:]
    if not all(at_s is None or type(at_s) is int for at_s in (recorded_at_s, verified_at_s)):
        raise DamagedRow("a time of another type")
    if not (level is None or type(level) is str) or (level is None) != (verified_at_s is None):
        raise DamagedRow("a verification without level or time")
    return recorded_at_s, level or "", verified_at_s


def as_instance(row: Sequence[Any]) -> Instance:
    """Return the instance in the values of INSTANCE_COLUMNS. Raises DamagedRow."""
    header = as_header(row)
    if header is None:
        raise DamagedRow("no UIDs")
    sent_bytes, original = _as_sent(row[10:14], header)
    sha256 = _as_digits(row[14])
    return Instance(as_candidate(row), header, sha256=sha256, sent_bytes=sent_bytes, original=original)


def as_candidate(row: Sequence[Any]) -> Candidate:
    """Return the candidate in the first three values of COLUMNS. Raises DamagedRow."""
    path, size_bytes, version = row[:3]
    if type(path) is not bytes or type(size_bytes) is not int or type(version) not in (int, bytes):
        raise DamagedRow("a path, a size or a version of another type")
    if type(version) is bytes:
        try:
            version = version.decode(errors="surrogatepass")
        except UnicodeDecodeError:
            raise DamagedRow("a version that is no text") from None
    return Candidate(os.fsdecode(path), size_bytes, version)


def as_header(row: Sequence[Any]) -> Header | None:
    """Return the head in the values of INSTANCE_COLUMNS; None if the file had none. Raises DamagedRow."""
    uids, attributes = row[3:8], row[8:10]
    if all(uid is None for uid in uids):
        return None
    if not all(type(uid) is str for uid in uids):
        raise DamagedRow("a UID of another type")
    if not all(type(attribute) in (str, type(None)) for attribute in attributes):
        raise DamagedRow("a modality or a study date of another type")
    return Header(*uids, *attributes)
