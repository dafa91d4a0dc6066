"""Writes rows of a report as CSV, JSON lines and tables, one after the other."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TextIO

from bulkstow.ledger import Entry
from bulkstow.model import FileResult, Outcome
from bulkstow.printing import shown, shown_in_cell
from bulkstow.quantities import counted, show_size
from bulkstow.report.fields import Fields, as_date, as_time
from bulkstow.report.rows import ModalityRow, ReasonRow, StudyRow

KEPT_CELLS = 1024
"""Escaped cells that are cached: consecutive files share most of their cells."""

UNKNOWN = "-"
"""A value in a table that is not known."""


def write_csv(columns: Iterable[str], rows: Iterable[Fields], out: TextIO) -> None:
    """Write rows as CSV with a heading; text that a spreadsheet would take for a formula is marked."""
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(tuple(map(_cell, fields.values())) for fields in rows)


@lru_cache(KEPT_CELLS, typed=True)
def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else shown_in_cell(value)


def write_json_lines(rows: Iterable[Fields], out: TextIO) -> None:
    """Write each row as one JSON object per line, in ASCII."""
    out.writelines(json.dumps(fields).replace("\x7f", r"\u007f") + "\n" for fields in rows)


def file_lines(entries: Iterable[Entry], nothing: str) -> Iterator[str]:
    """Return the table of files, and the number of files by outcome, or `nothing` if there are no files."""
    counts: Counter[Outcome] = Counter()
    accepted = 0
    yield f"{'outcome':<12} {'attempts':>8}  path: reason"
    for entry in entries:
        result = entry.result
        counts[result.outcome] += 1
        reason = f": {shown(result.reason)}" if result.reason else ""
        yield f"{result.outcome:<12} {result.attempts:>8}  {shown(result.candidate.location)}{reason}{_note(result)}"
        accepted += bool(result.accepted)
    total = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or nothing
    yield f"{total} ({accepted:,} accepted)" if accepted else total


def _note(result: FileResult) -> str:
    return f" (accepted: {shown(result.accepted)})" if result.accepted else ""


def study_lines(rows: Iterable[StudyRow], *, has_destinations: bool = False) -> Iterator[str]:
    """Return the table of studies, with their destinations if there are several, and the number of complete ones."""
    yield (
        f"{'complete':<8} {'files':>8} {'stored':>8} {'failed':>8} {'conflicts':>9} {'missing':>8} {'accepted':>8}  "
        f"{'verified':<17}  {'modality':<10}  {'study date':<10}  {'first outcome':<16}  {'last outcome':<16}  study"
    )
    studies = complete = 0
    for row in rows:
        studies += bool(row.study_uid)
        complete += bool(row.study_uid) and row.is_complete
        verified = f"{row.verified:,} {row.verified_level}" if row.verified else "0"
        date = as_date(row.study_date) or UNKNOWN
        yield (
            f"{'yes' if row.is_complete else 'no':<8} {row.files:>8,} {row.stored:>8,} {row.failed:>8,} "
            f"{row.conflicts:>9,} {row.missing:>8,} {row.accepted:>8,}  "
            f"{verified:<17}  {row.modality or UNKNOWN:<10}  {date:<10}  "
            f"{_minute(row.first_at_s):<16}  {_minute(row.last_at_s):<16}  "
            f"{shown(row.study_uid) or '(files of no known study)'}"
            + (f"  {shown(row.destination)}" if has_destinations else "")
        )
    yield f"{complete:,} of {counted(studies, 'study', 'studies')} complete" if studies else "no studies"


def _minute(at_s: int | None) -> str:
    time = as_time(at_s)
    return UNKNOWN if time is None else time[:16].replace("T", " ")


def reason_lines(rows: Iterable[ReasonRow]) -> Iterator[str]:
    """Return the table of reasons."""
    yield f"{'outcome':<12} {'files':>9} {'accepted':>9} {'studies':>9}  reason; a file"
    for row in rows:
        reason = f"{shown(row.reason)}; " if row.reason else ""
        yield (f"{row.outcome:<12} {row.files:>9,} {row.accepted:>9,} {row.studies:>9,}  {reason}{shown(row.example)}")


def modality_lines(rows: Iterable[ModalityRow], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Return the table of modalities, with a column for each of these outcomes."""
    names = " ".join(f"{outcome:>11}" for outcome in outcomes)
    yield f"{'modality':<10} {'studies':>9} {'files':>11} {'size':>9} {names} {'accepted':>9}".rstrip()
    for row in rows:
        counts = " ".join(f"{row.outcomes[outcome]:>11,}" for outcome in outcomes)
        name = UNKNOWN if row.modality is None else shown(row.modality) or "(none)"
        yield (
            f"{name:<10} {row.studies:>9,} {row.files:>11,} {show_size(row.size_bytes):>9} {counts} {row.accepted:>9,}"
        )
