"""`bulkstow report`: the outcome of every file, counts by study, reason or modality, and the page for the sign-off."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TextIO

from cyclopts import Parameter

from bulkstow.cli.choices import outcomes_named
from bulkstow.cli.sign_off import write_sign_off
from bulkstow.errors import ConfigurationError
from bulkstow.ledger import LedgerReader
from bulkstow.ledger import recover as read_damaged
from bulkstow.model import Outcome
from bulkstow.printing import shown
from bulkstow.quantities import counted
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.fields import (
    FILE_COLUMNS,
    MODALITY_COLUMNS,
    REASON_COLUMNS,
    STUDY_COLUMNS,
    Fields,
    file_fields,
    modality_fields,
    reason_fields,
    study_fields,
)
from bulkstow.report.writing import (
    file_lines,
    modality_lines,
    reason_lines,
    study_lines,
    write_csv,
    write_json_lines,
)
from bulkstow.setting_types import Switch

Notation = Literal["table", "csv", "jsonl"]
Grouping = Literal["study", "reason", "modality"]


def report(
    ledger: Annotated[tuple[Path, ...], Parameter(negative="")],
    *,
    format: Notation = "table",  # noqa: A002 - the flag's name
    outcome: str = "",
    by: Grouping | None = None,
    html: Path | None = None,
    recover: Switch = False,
) -> int:
    """List the outcome of every file, of one ledger or of several as one.

    Parameters
    ----------
    ledger
        Ledgers that `bulkstow upload` wrote. A file that is in several counts once: as a success if it has not
        changed since, otherwise as in the latest run.
    format
        A table, CSV for spreadsheets, or one JSON object per line. Only JSON has the exact names: a table and CSV
        escape unprintable characters, and CSV puts an apostrophe before a formula.
    outcome
        List only these outcomes, separated by commas: stored, warned, duplicate, refused, unconfirmed, conflict,
        missing, unreadable, skipped; with --by study the studies with such files.
    by
        Count the files by study (those with failures first, then the newest first), by outcome and reason (failures
        first, then the most frequent first), or by modality.
    html
        Write a page for the sign-off of the migration to this file, and beside it the tables of all studies and all
        files as CSV.
    recover
        Copy the intact rows of a damaged ledger to a new one beside it; one ledger at a time.
    """
    if recover:
        if len(ledger) > 1:
            raise ConfigurationError("--recover: give one ledger at a time")
        return _recover(ledger[0])
    outcomes = outcomes_named(outcome)
    if html is not None:
        if by is not None or outcomes or format != "table":
            raise ConfigurationError("--html: the page has all files; leave out --by, --outcome and --format")
        return write_sign_off(ledger, html)
    with LedgerReader(ledger) as reader:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names in any script can be written in any locale
        if by is None:
            _write_files(reader, outcomes, format, sys.stdout)
        else:
            with Aggregate() as counts:
                # Whether a study is complete depends on all of its files.
                for entry in reader.entries(() if by == "study" else outcomes):
                    counts.add(entry)
                _write_groups(counts, by, outcomes, format, sys.stdout)
        if format == "table" and len(ledger) > 1:
            print(f"from {counted(len({path.resolve() for path in ledger}), 'ledger')}")
            if not outcomes and by is None and (shared := reader.count_shared_instances()):
                print(f"{counted(shared, 'SOP instance')} with files in several ledgers: no run has compared them")
    return 0


def _recover(ledger: Path) -> int:
    recovered = read_damaged(ledger)
    print(f"{counted(recovered.files, 'file')} recovered to {shown(str(recovered.path))}")
    if recovered.left_out:
        print(f"{counted(recovered.left_out, 'damaged or outdated row')} left out")
    if not recovered.is_whole:
        print("other rows may be missing: not every page could be read")
    print("use the new ledger for the next upload (--ledger): files that are missing in it are sent again")
    return 0


def _write_files(reader: LedgerReader, outcomes: Sequence[Outcome], notation: Notation, out: TextIO) -> None:
    entries = reader.entries(outcomes)
    match notation:
        case "table":
            _print(file_lines(entries, _nothing(outcomes)), out)
        case "csv":
            write_csv(FILE_COLUMNS, map(file_fields, entries), out)
        case "jsonl":
            write_json_lines(map(file_fields, entries), out)


def _write_groups(
    counts: Aggregate, by: Grouping, outcomes: Sequence[Outcome], notation: Notation, out: TextIO
) -> None:
    match by, notation:
        case "study", "table":
            _print(study_lines(counts.by_study(outcomes), has_destinations=counts.count_destinations() > 1), out)
        case "reason", "table":
            _print(reason_lines(counts.by_reason()), out)
        case "modality", "table":
            _print(modality_lines(counts.by_modality(), [row.outcome for row in counts.by_outcome()]), out)
        case _, "csv":
            write_csv(*_columns_and_rows(counts, by, outcomes), out)
        case _:
            write_json_lines(_columns_and_rows(counts, by, outcomes)[1], out)


def _columns_and_rows(
    counts: Aggregate, by: Grouping, outcomes: Sequence[Outcome]
) -> tuple[Sequence[str], Iterator[Fields]]:
    match by:
        case "study":
            return STUDY_COLUMNS, map(study_fields, counts.by_study(outcomes))
        case "reason":
            return REASON_COLUMNS, map(reason_fields, counts.by_reason())
        case "modality":
            return MODALITY_COLUMNS, map(modality_fields, counts.by_modality())


def _print(lines: Iterable[str], out: TextIO) -> None:
    for line in lines:
        print(line, file=out)


def _nothing(outcomes: Sequence[Outcome]) -> str:
    words = " or ".join(f'"{outcome}"' for outcome in outcomes)
    return f"no file with outcome {words}" if words else "no files"
