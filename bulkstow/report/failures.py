"""The parts of the sign-off page about files that could not be migrated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from bulkstow.pages.markup import Table, note, tag, text
from bulkstow.quantities import counted
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.fields import as_date
from bulkstow.report.rows import ReasonRow, StudyCounts, StudyRow
from bulkstow.report.writing import UNKNOWN

SHOWN_REASONS = 40
"""Kinds of reasons on the page, the most frequent ones; there are about 60 kinds in all."""

SHOWN_PATHS = 5
"""Files that are named for each of them."""

SHOWN_STUDIES = 60
"""Studies with failures on the page: two to three sheets of A4, by the length of their UIDs."""


def open_failures(counts: Aggregate) -> Iterator[str]:
    """Return the failures that nobody has accepted, by their reasons."""
    rows = (row for row in counts.by_reason() if row.outcome.is_failure and row.files > row.accepted)
    markup = "".join(_by_reason(counts, rows, is_accepted=False))
    yield markup or tag("p", "There are no failures.")


def accepted_failures(counts: Aggregate) -> Iterator[str]:
    """Return the notes of the accepted failures, and the failures by their reasons; nothing if there are none."""
    notes = counts.by_note(SHOWN_REASONS + 1)
    if not notes:
        return
    cells = ((words, outcome.value, f"{count:,}") for words, outcome, count in notes[:SHOWN_REASONS])
    yield Table(("note", "outcome", "files"), tuple(cells)).markup("notes")
    if len(notes) > SHOWN_REASONS:
        yield note("More notes are in the table of files.")
    yield from _by_reason(counts, (row for row in counts.by_reason() if row.accepted), is_accepted=True)


def _by_reason(counts: Aggregate, rows: Iterator[ReasonRow], *, is_accepted: bool) -> Iterator[str]:
    shown = list(islice(rows, SHOWN_REASONS))
    if not shown:
        return
    files_of = {row: row.accepted if is_accepted else row.files - row.accepted for row in shown}
    cells = ((row.outcome.value, row.reason, f"{files:,}") for row, files in files_of.items())
    headings = ("outcome", "reason", "files")
    yield Table(headings, tuple(cells), words=("reason",)).markup("accepted failures" if is_accepted else "failures")
    if more := sum(1 for _ in rows):
        yield note(f"{counted(more, 'more reason', 'more reasons')} in the table of files.")
    for row, files in files_of.items():
        found = counts.examples(row, SHOWN_PATHS, is_accepted=is_accepted)
        yield _paths(row, found, files - len(found))


def _paths(row: ReasonRow, found: list[tuple[str, str]], more: int) -> str:
    items = (tag("li", tag("code", text(path)), text(f" {reason}" if reason else "")) for path, reason in found)
    rest = tag("li", text(f"and {more:,} more, in the table of files")) if more else ""
    title = f"{row.outcome}: {row.reason}" if row.reason else row.outcome.value
    return tag("h3", text(title)) + tag("ul", *items, rest, class_="paths")


def incomplete_studies(counts: Aggregate, studies: StudyCounts) -> Iterator[str]:
    """Return the studies with failures that nobody has accepted."""
    shown = [row for row in islice(counts.by_study(is_incomplete=True), SHOWN_STUDIES + 1) if row.study_uid]
    if not shown:
        yield tag("p", "Every known study is complete." if studies.studies else "No study is known.")
        return
    headings = ("study", "date", "modality", "files", "stored", "failed", "conflicts", "missing", "accepted")
    yield Table(headings, tuple(map(_study_cells, shown[:SHOWN_STUDIES]))).markup("studies with failures")
    more = studies.studies - studies.complete - min(len(shown), SHOWN_STUDIES)
    if more:
        yield note(f"{more:,} more are in the table of studies.")


def _study_cells(row: StudyRow) -> tuple[str, ...]:
    figures = (row.files, row.stored, row.failed, row.conflicts, row.missing, row.accepted)
    return (
        row.study_uid,
        as_date(row.study_date) or UNKNOWN,
        row.modality or UNKNOWN,
        *(f"{figure:,}" for figure in figures),
    )
