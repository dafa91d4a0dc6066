"""The results of studies as lines: a table, CSV, or one JSON object per line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, Literal, TextIO

from bulkstow.policy.study_state import StudyResult
from bulkstow.printing import shown, shown_in_cell
from bulkstow.verification.examine import Examined

Notation = Literal["table", "csv", "jsonl"]

COLUMNS = ("study_uid", "state", "expected", "found", "missing", "different", "extra", "reason", "original_study_uid")


SPOOL_BYTES = 2**20
"""Lines for a terminal that are kept in memory: 10,000 studies; more are kept in a temporary file."""


class Lines:
    """Writes a line for each study; a table has only studies that are not complete. Called in one thread at a time.

    Lines for a terminal are kept until `show`, because the progress is drawn there meanwhile.
    """

    def __init__(self, notation: Notation, out: TextIO) -> None:
        self._notation = notation
        self._out = out
        self._spool: IO[str] | None = None
        if out.isatty():
            self._spool = SpooledTemporaryFile(SPOOL_BYTES, "w+", encoding="utf-8", newline="")  # noqa: SIM115 - `close`
        self._has_begun = False

    def begin(self) -> None:
        """Write the heading of CSV, even if no study follows."""
        if self._notation == "csv":
            self._out.write(_as_csv(COLUMNS))

    def close(self) -> None:
        """Remove the kept lines."""
        if self._spool is not None:
            self._spool.close()

    def show(self) -> None:
        """Write the lines that were kept, after the progress has ended."""
        if self._spool is not None:
            self._spool.seek(0)
            shutil.copyfileobj(self._spool, self._out)
            self._spool.seek(0)
            self._spool.truncate()
            self._out.flush()

    def write(self, examined: Sequence[Examined]) -> None:
        """Write results."""
        results = [one.result for one in examined]
        match self._notation:
            case "csv":
                text = "".join(_as_csv(_cells(result)) for result in results)
            case "jsonl":
                text = "".join(json.dumps(_fields(result)) + "\n" for result in results)
            case "table":
                text = "".join(self._row(result) for result in results if not result.state.is_complete)
        if text:
            out = self._spool or self._out
            out.write(text)
            out.flush()

    def _row(self, result: StudyResult) -> str:
        heading = "" if self._has_begun else f"{'state':<10} {'expected':>9} {'found':>9}  study: instances\n"
        self._has_begun = True
        found = "?" if result.found is None else f"{result.found:,}"
        return f"{heading}{result.state:<10} {result.expected:>9,} {found:>9}  {_shown(result)}\n"


SHOWN_UIDS = 3
"""UIDs of a row of the table; CSV and JSON have them all."""


def _shown(result: StudyResult) -> str:
    parts = [
        f"{name} {', '.join(uids[:SHOWN_UIDS])}{f' and {len(uids) - SHOWN_UIDS:,} more' * (len(uids) > SHOWN_UIDS)}"
        for name, uids in (("missing", result.missing), ("different", result.different))
        if uids and len(uids) < result.expected
    ]
    text = "; ".join([*parts, *([result.reason] if result.reason else [])])
    study = f"{result.study_uid} (at the source {result.original_study_uid})" if result.original_study_uid else ""
    study = study or result.study_uid
    return shown(f"{study}: {text}" if text else study)


def _fields(result: StudyResult) -> dict[str, object]:
    return {name: getattr(result, name) for name in COLUMNS}


def _cells(result: StudyResult) -> list[object]:
    cells: list[object] = []
    for value in _fields(result).values():
        text = " ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        cells.append(shown_in_cell(text))
    return cells


def _as_csv(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
