"""`bulkstow report`: list the outcome of every file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TextIO

from cyclopts import Parameter

from bulkstow.config import Switch
from bulkstow.errors import ConfigurationError
from bulkstow.ledger import Entry, LedgerReader
from bulkstow.ledger import recover as read_damaged
from bulkstow.model import Outcome
from bulkstow.printing import shown, shown_in_cell
from bulkstow.quantities import counted

COLUMNS = ("path", "sop_instance_uid", "outcome", "reason", "attempts", "size_bytes", "study_uid", "series_uid")

Notation = Literal["table", "csv", "jsonl"]


def report(
    ledger: Annotated[tuple[Path, ...], Parameter(negative="")],
    *,
    format: Notation = "table",  # noqa: A002 - the flag's name
    outcome: str = "",
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
        unreadable, skipped.
    recover
        Copy the intact rows of a damaged ledger to a new one beside it; one ledger at a time.
    """
    if recover:
        if len(ledger) > 1:
            raise ConfigurationError("--recover: give one ledger at a time")
        return _recover(ledger[0])
    with LedgerReader(ledger) as reader:
        _write(reader.entries(_outcomes_named(outcome)), format, sys.stdout, outcome)
        if format == "table" and len(ledger) > 1:
            print(f"from {counted(len({path.resolve() for path in ledger}), 'ledger')}")
            if not outcome and (shared := reader.count_shared_instances()):
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


def _write(entries: Iterator[Entry], notation: Notation, out: TextIO, chosen: str) -> None:
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # names in any script can be written in any locale
    match notation:
        case "table":
            _write_table(entries, out, chosen)
        case "csv":
            writer = csv.writer(out)
            writer.writerow((*COLUMNS, "destination"))
            writer.writerows(tuple(map(shown_in_cell, _fields(entry).values())) for entry in entries)
        case "jsonl":
            for entry in entries:
                print(json.dumps(_fields(entry)).replace("\x7f", r"\u007f"), file=out)


def _outcomes_named(text: str) -> list[Outcome]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in list(Outcome):
            raise ConfigurationError(f"--outcome {word!r}: expected some of {', '.join(Outcome)}")
    return [Outcome(word) for word in words]


def _fields(entry: Entry) -> dict[str, object]:
    result = entry.result
    header = result.header
    values = (
        result.candidate.location,
        header.sop_instance_uid if header else None,
        result.outcome.value,
        result.reason,
        result.attempts,
        result.candidate.size_bytes,
        header.study_uid if header else None,
        header.series_uid if header else None,
    )
    return {**dict(zip(COLUMNS, values, strict=True)), "destination": entry.destination}


def _write_table(entries: Iterator[Entry], out: TextIO, chosen: str) -> None:
    counts: Counter[Outcome] = Counter()
    print(f"{'outcome':<12} {'attempts':>8}  path: reason", file=out)
    for entry in entries:
        result = entry.result
        counts[result.outcome] += 1
        reason = f": {shown(result.reason)}" if result.reason else ""
        print(f"{result.outcome:<12} {result.attempts:>8}  {shown(result.candidate.location)}{reason}", file=out)
    print(", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or _nothing(chosen), file=out)


def _nothing(chosen: str) -> str:
    words = " or ".join(f'"{outcome}"' for outcome in _outcomes_named(chosen))
    return f"no file with outcome {words}" if words else "no files"
