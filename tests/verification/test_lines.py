"""The results of studies as lines."""

from __future__ import annotations

import io
import json
from contextlib import closing

import pytest

from bulkstow.policy.study_state import StudyResult, StudyState
from bulkstow.verification.examine import Examined
from bulkstow.verification.lines import SPOOL_BYTES, Lines

COMPLETE = Examined(StudyResult("1.1", StudyState.COMPLETE, 3, 3))
UIDS = ("1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5")
INCOMPLETE = Examined(
    StudyResult("1.2", StudyState.INCOMPLETE, 7, 2, missing=UIDS, extra=("9.9",), original_study_uid="2.1")
)
UNKNOWN = Examined(StudyResult("1.3", StudyState.UNKNOWN, 1200, None, reason="HTTP 500 (=cmd\x1b[2J)"))
ABSENT = Examined(StudyResult("1.4", StudyState.ABSENT, 2, 0, missing=("1.4.1", "1.4.2")))


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_a_table_has_what_is_not_complete() -> None:
    """The heading comes once; a few missing UIDs are named, none if all are missing, and the UID at the source."""
    out = io.StringIO()
    lines = Lines("table", out)
    lines.begin()
    lines.write([COMPLETE])
    assert out.getvalue() == ""
    lines.write([INCOMPLETE, UNKNOWN])
    lines.write([ABSENT])
    assert out.getvalue().splitlines() == [
        "state       expected     found  study: instances",
        "incomplete         7         2  1.2 (at the source 2.1): missing 1.2.1, 1.2.2, 1.2.3 and 2 more",
        r"unknown        1,200         ?  1.3: HTTP 500 (=cmd\x1b[2J)",
        "absent             2         0  1.4",
    ]


def test_csv_has_all_uids_and_no_formula() -> None:
    """UIDs are separated by spaces, unknown values are empty, and no cell is a formula or steers a terminal."""
    out = io.StringIO(newline="")
    lines = Lines("csv", out)
    lines.begin()
    lines.write([COMPLETE, INCOMPLETE])
    lines.write([Examined(StudyResult("=1+1", StudyState.UNKNOWN, 1, None, reason="no\x1b"))])
    assert out.getvalue().split("\r\n") == [
        "study_uid,state,expected,found,missing,different,extra,reason,original_study_uid",
        "1.1,complete,3,3,,,,,",
        "1.2,incomplete,7,2,1.2.1 1.2.2 1.2.3 1.2.4 1.2.5,,9.9,,2.1",
        r"'=1+1,unknown,1,,,,,no\x1b,",
        "",
    ]


def test_json_has_the_exact_values() -> None:
    """One object per line, with lists of UIDs."""
    out = io.StringIO()
    Lines("jsonl", out).write([INCOMPLETE, UNKNOWN])
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["missing"], first["extra"], first["different"]) == (list(UIDS), ["9.9"], [])
    assert (second["found"], second["reason"]) == (None, UNKNOWN.result.reason)


@pytest.mark.parametrize("count", [1, SPOOL_BYTES // 100])
def test_a_terminal_gets_its_lines_after_the_progress(count: int) -> None:
    """While the progress is drawn on the same terminal no line is written; none is lost or written twice."""
    out = Terminal()
    with closing(Lines("jsonl", out)) as lines:
        for _ in range(count):
            lines.write([INCOMPLETE])
        assert out.getvalue() == ""
        lines.show()
        lines.show()
    assert len(out.getvalue().splitlines()) == count
