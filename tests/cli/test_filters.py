"""Filters on the command line: several values of a flag, and the filters in log and summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkstow.ledger import LedgerReader
from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance
from tests.cli.command import call, served
from tests.cli.settings import URL, Wanted


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--modality", "CT,MR"], ("CT", "MR")),
        (["--modality", "CT", "--modality", "MR"], ("CT", "MR")),
        (["--modality", " CT , MR "], ("CT", "MR")),
    ],
)
def test_lists_have_commas_or_repeated_flags(
    capsys: pytest.CaptureFixture[str], wanted: Wanted, words: list[str], expected: tuple[str, ...]
) -> None:
    """A modality contains no comma, so commas and repeated flags both separate values."""
    assert call(capsys, "upload", "archive", "--url", URL, *words).status == 0
    assert wanted.job.selection.modality == expected


def test_a_pattern_may_have_a_comma(capsys: pytest.CaptureFixture[str], wanted: Wanted) -> None:
    """Each flag is one pattern, as a name may have commas."""
    call(capsys, "upload", "archive", "--url", URL, "--include", "a,b", "--include", "c")
    assert wanted.job.selection.include == ("a,b", "c")


def test_filters_are_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The log has them at its start and the counts at its end, the ledger has them, and the summary the counts."""
    for number in range(3):
        write_instance(tmp_path / "archive", number)
    (tmp_path / "archive" / "old").mkdir()
    words = ["--exclude", "*2", "--exclude", "old", "--log", "run.log", "--log-format", "json", "--summary", "run.json"]
    with served(DiscardStorage()) as url:
        ended = call(capsys, "upload", "archive", "--url", url, *words)
    assert ended.status == 0
    assert "left out 1 file: 1 by --exclude\n1 directory not entered because of --exclude\n" in ended.out
    lines = [json.loads(line) for line in Path("run.log").read_text().splitlines()]
    assert lines[0]["exclude"] == ["*2", "old"]
    assert lines[-1]["left_out"] == {"exclude": 1}
    summary = json.loads(Path("run.json").read_text())
    assert (summary["left_out"], summary["pruned_directories"]) == ({"exclude": 1}, 1)
    with LedgerReader([Path("bulkstow.db")]) as ledger:
        (run,) = ledger.runs()
    assert run.settings["exclude"] == ["*2", "old"]
    assert (run.settings["source"], run.settings["files_from"]) == ([str(tmp_path / "archive")], None)
    page = call(capsys, "report", "bulkstow.db", "--html", "page.html")
    assert page.status == 0
    left_out = "left out 1 file (1 by --exclude) and 1 directory (by --exclude)."
    assert left_out in Path("page.html").read_text()
