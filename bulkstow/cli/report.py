"""`bulkstow report`: what became of every file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

from bulkstow.errors import ConfigurationError
from bulkstow.ledger import Entry, read_entries
from bulkstow.model import Fate
from bulkstow.progress.closing import shown

COLUMNS = ("path", "sop_instance_uid", "outcome", "reason", "attempts", "size_bytes", "study_uid", "series_uid")

Notation = Literal["table", "csv", "jsonl"]


def report(
    ledger: Path,
    *,
    format: Notation = "table",  # noqa: A002 - the flag's name
    outcome: str = "",
) -> int:
    """Say what became of every file.

    Parameters
    ----------
    ledger
        The journal that `bulkstow upload` wrote.
    format
        A table for people, CSV, or one JSON object a line.
    outcome
        Only these, separated by commas: stored, warned, duplicate, refused, unconfirmed, conflict, unreadable, skipped.
    """
    _write(read_entries(ledger, _fates(outcome)), format, sys.stdout)
    return 0


def _write(entries: Iterator[Entry], notation: Notation, out: TextIO) -> None:
    if isinstance(out, io.TextIOWrapper):
        # A name that is not UTF-8 goes out as the bytes it has on disk.
        out.reconfigure(errors="surrogateescape")
    match notation:
        case "table":
            _write_table(entries, out)
        case "csv":
            writer = csv.writer(out)
            writer.writerow((*COLUMNS, "destination"))
            writer.writerows(tuple(_fields(entry).values()) for entry in entries)
        case "jsonl":
            for entry in entries:
                print(json.dumps(_fields(entry)), file=out)


def _fates(text: str) -> list[Fate]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in list(Fate):
            raise ConfigurationError(f"--outcome {word!r}: expected some of {', '.join(Fate)}")
    return [Fate(word) for word in words]


def _fields(entry: Entry) -> dict[str, object]:
    outcome = entry.outcome
    header = outcome.header
    values = (
        outcome.candidate.location,
        header.sop_instance_uid if header else None,
        outcome.fate.value,
        outcome.reason,
        outcome.attempts,
        outcome.candidate.size_bytes,
        header.study_uid if header else None,
        header.series_uid if header else None,
    )
    return {**dict(zip(COLUMNS, values, strict=True)), "destination": entry.destination}


def _write_table(entries: Iterator[Entry], out: TextIO) -> None:
    counts: Counter[Fate] = Counter()
    print(f"{'outcome':<12} {'attempts':>8}  path: reason", file=out)
    for entry in entries:
        outcome = entry.outcome
        counts[outcome.fate] += 1
        reason = f": {shown(outcome.reason)}" if outcome.reason else ""
        print(f"{outcome.fate:<12} {outcome.attempts:>8}  {shown(outcome.candidate.location)}{reason}", file=out)
    print(", ".join(f"{count:,} {fate}" for fate, count in counts.items()) or "no such file in this ledger", file=out)
