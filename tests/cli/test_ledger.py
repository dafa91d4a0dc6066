"""The ledger of a command: no other files remain, and a run that loses it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.model import StoreResponse
from tests.archives import write_batch
from tests.cli.command import call, served


class Deletes:
    """A fault that deletes or replaces a file at the first request."""

    def __init__(self, path: Path, content: bytes | None) -> None:
        self._path = path
        self._content = content
        self.requests = 0

    async def before(self, request: web.Request, number: int) -> None:
        """Delete or replace the file."""
        self.requests = number
        if number == 1:
            self._path.unlink()
            if self._content is not None:
                self._path.write_bytes(self._content)

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Do nothing."""
        return response


@pytest.mark.parametrize("content", [None, b"another"], ids=["deleted", "replaced"])
def test_a_run_that_loses_its_ledger_stops(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """The run ends with 3 and one line, after the current requests; a file in the ledger's place is not changed."""
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path / "archive", 200)
    fault = Deletes(tmp_path / "run.db", content)
    with served(fault=fault) as url:
        words = ("--url", url, "--ledger", "run.db", "--progress", "none", "--batch-instances", "1")
        ended = call(capsys, "upload", "archive", *words, "--concurrency", "1")
    assert ended.status == 3
    lines = [line for line in ended.err.splitlines() if line.startswith("bulkstow: ")]
    assert lines[-1].startswith("bulkstow: the ledger run.db was deleted or replaced while the run went on")
    assert fault.requests < 100
    assert not (tmp_path / "run.db").exists() if content is None else (tmp_path / "run.db").read_bytes() == content


@pytest.mark.parametrize("is_ledger", [True, False], ids=["ledger", "no ledger"])
def test_nothing_is_left_beside_the_ledger(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ledger: bool
) -> None:
    """No other file remains after a run, after a report, and after a run with a file that is not a ledger."""
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path / "archive", 3)
    (tmp_path / "beside").mkdir()
    if not is_ledger:
        (tmp_path / "beside" / "run.db").write_text("no ledger")
    with served() as url:
        ended = call(capsys, "upload", "archive", "--url", url, "--ledger", "beside/run.db", "--progress", "none")
        reported = call(capsys, "report", "beside/run.db")
    assert (ended.status, reported.status) == ((0, 0) if is_ledger else (3, 3))
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["run.db"]
