from __future__ import annotations

from typing import Any

import pytest

from benchmarks.readme import compact


def document(
    date: str, *goals: tuple[str, str, bool], table: str = "ct", machine: str = "A, 2 cores", **others: str
) -> dict[str, Any]:
    """What `--json` writes, as far as it matters here."""
    told = [{"text": text, "found": found, "holds": holds} for text, found, holds in goals]
    tables = [{"name": table, "title": f"{table.upper()} slices", "goals": told, "rows": [["x"]]}]
    return {"machine": machine, "versions": "bulkstow 1.0", "date": date, "scale": "1", "tables": tables, **others}


def cells(text: str) -> list[list[str]]:
    """The rows of a table of Markdown, below its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_row_has_the_work_the_goal_and_what_came_of_it() -> None:
    """Every goal of every table is a row, with its verdict, its day and its machine below."""
    text = compact([document("2026-11-22T14:00+00:00", ("<= 1.0 x", "0.9 x", True), (">= 15 x", "9 x", False))])
    assert cells(text) == [
        ["CT slices", "<= 1.0 x", "0.9 x", "holds", "2026-11-22", "a"],
        ["CT slices", ">= 15 x", "9 x", "missed", "2026-11-22", "a"],
    ]
    assert text.splitlines()[-1] == "a: A, 2 cores; bulkstow 1.0"


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_measurements_the_later_counts(turned: bool) -> None:
    """A table measured again replaces the earlier one whole, whichever file is named first."""
    early = document("2026-11-21T09:00+00:00", ("goal", "early", False), ("dropped since", "early", True))
    late = document("2026-11-22T09:00+00:00", ("goal", "late", True))
    found = cells(compact([late, early] if turned else [early, late]))
    assert [row[1:4] for row in found] == [["goal", "late", "holds"]]


def test_tables_of_several_files_stand_below_each_other() -> None:
    """Files that hold different tables add up, and one machine is named once."""
    first = document("2026-11-21T09:00+00:00", ("goal", "1", True))
    second = document("2026-11-22T09:00+00:00", ("goal", "2", True), table="mr")
    text = compact([first, second])
    assert [(row[0], row[4], row[5]) for row in cells(text)] == [
        ("CT slices", "2026-11-21", "a"),
        ("MR slices", "2026-11-22", "a"),
    ]
    assert text.count("A, 2 cores") == 1


def test_machines_are_kept_apart() -> None:
    """The same table from two machines is two rows, each with the letter of its own."""
    first = document("2026-11-21T09:00+00:00", ("goal", "1", True))
    second = document("2026-11-22T09:00+00:00", ("goal", "2", True), machine="B, 64 cores")
    text = compact([first, second])
    assert [row[5] for row in cells(text)] == ["a", "b"]
    assert text.splitlines()[-2:] == ["a: A, 2 cores; bulkstow 1.0", "b: B, 64 cores; bulkstow 1.0"]


@pytest.mark.parametrize("wrong", [{}, [], {"machine": "A", "versions": "", "date": "", "tables": [{"goals": [{}]}]}])
def test_a_file_of_another_kind_is_told(wrong: Any) -> None:
    """What `--json` did not write is named as such, not shown in part."""
    with pytest.raises(ValueError, match="not what --json writes"):
        compact([wrong])
