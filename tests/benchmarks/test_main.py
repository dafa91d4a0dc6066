from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.bench import Bench
from benchmarks.measure import Goal, Table
from benchmarks.processes import PeerFailed
from benchmarks.readme import compact


def _fails(_bench: Bench) -> Table:
    raise PeerFailed("Orthanc is not installed")


def _works(_bench: Bench) -> Table:
    return Table("Work", ("peer", "wall s"), [("bulkstow", "1.0")], [Goal("fast", "fast enough", holds=True)])


def test_a_table_that_cannot_be_made_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was measured is kept, what was not is told, and the exit status says so."""
    monkeypatch.setattr(command, "TABLES", {"first": _fails, "second": _works})
    kept = tmp_path / "kept.json"
    found = {"machine": "A", "versions": "1", "date": "2026-11-22"}
    assert command.make(["first", "second"], Bench(tmp_path, tmp_path), found, kept) is False
    assert "first: Orthanc is not installed" in capsys.readouterr().err
    assert "fast enough" in compact([json.loads(kept.read_text())])


@pytest.mark.parametrize("words", [["readme"], ["ct", "one.json"]])
def test_only_readme_takes_files_and_it_wants_some(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside another table is a mistake, and so is none for `readme`: wrong usage, before anything is run."""
    monkeypatch.setattr("sys.argv", ["benchmarks", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
