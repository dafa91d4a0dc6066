"""Files that commands write: a ledger is none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkstow.ledger import Ledger
from tests.cli.command import call

URL = "http://127.0.0.1:9/dicom-web"


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["report", "old.db", "--html", "old.db"], "--html"),
        (["plan", "archive", "--ledger", "old.db", "--list", "old.db"], "--list"),
        (["plan", "archive", "--digest", "sha256", "--digest-list", "old.db"], "--digest-list"),
        (["upload", "archive", "--url", URL, "--ledger", "new.db", "--summary", "old.db"], "--summary"),
        (["upload", "archive", "--url", URL, "--ledger", "new.db", "--log", "old.db"], "--log"),
    ],
)
def test_a_ledger_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], flag: str
) -> None:
    """A ledger whose name is given for another file is not changed: it is the only record of the sent files."""
    (tmp_path / "archive").mkdir()
    with Ledger(tmp_path / "old.db", URL):
        pass
    before = (tmp_path / "old.db").read_bytes()
    ended = call(capsys, *words)
    assert (ended.status, ended.out) == (2, "")
    assert f"{flag} old.db: is a ledger, and is not overwritten: give the name of another file" in ended.err
    assert (tmp_path / "old.db").read_bytes() == before
