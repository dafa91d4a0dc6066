"""Damaged ledgers: errors of one line with a remedy, and recovery of unchanged rows only."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.errors import LedgerError
from bulkstow.ledger import Ledger, Recovered, read_entries, recover
from bulkstow.ledger.database import wal_of
from bulkstow.model import Candidate, FileResult, Outcome
from tests.archives import header, write_batch
from tests.cli.command import call, served

URL = "http://pacs/dicom-web"
ROWS = 300
PAGE_BYTES = 4096
FILES_BEGIN, INDEX_BEGINS = 5, 6
"""The first pages of the table of files and of the index of its UIDs, in every ledger."""


def result(number: int) -> FileResult:
    """Return a result of one of four kinds."""
    candidate = Candidate(f"/archive/study/IM{number:06}", 1000 + number, 10**18 + number)
    match number % 10:
        case 0:
            return FileResult(candidate, None, Outcome.SKIPPED, "not DICOM")
        case 1:
            reason, of = "a second copy: see /archive/study/IM000002", "/archive/study/IM000002"
            return FileResult(candidate, header(2), Outcome.SKIPPED, reason, copy_of=of)
        case 2:
            return FileResult(candidate, header(number), Outcome.REFUSED, "wrong class (0xA900)", 1)
        case 3:
            original = replace(header(number), sop_instance_uid=f"1.2.{number}")
            return FileResult(candidate, header(number), Outcome.STORED, "", 1, sent_bytes=999, original=original)
        case _:
            return FileResult(candidate, header(number), Outcome.STORED, "", 1)


OUTCOMES = {o.candidate.location: o for o in map(result, range(ROWS))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a closed ledger with ROWS rows."""
    path = tmp_path_factory.mktemp("whole") / "run.db"
    with Ledger(path, URL) as ledger:
        ledger.record(OUTCOMES.values())
        ledger.learn_ceiling(2**20)
    return path


def flipped(whole: Path, path: Path, chance: random.Random) -> Path:
    """Copy a ledger with one bit, one byte or several bytes changed."""
    content = bytearray(whole.read_bytes())
    at = chance.choice([chance.randrange(len(content)), chance.randrange(PAGE_BYTES)])
    match chance.randrange(3):
        case 0:
            content[at] ^= 1 << chance.randrange(8)
        case 1:
            content[at] = chance.randrange(256)
        case _:
            content[at : at + 16] = chance.randbytes(min(16, len(content) - at))
    path.write_bytes(content)
    return path


@contextmanager
def may_be_refused() -> Iterator[None]:
    """Accept a LedgerError in a block, if that is one line with a remedy."""
    try:
        yield
    except LedgerError as error:
        text = str(error)
        assert "\n" not in text
        assert "--ledger" in text or "--recover" in text, text


@pytest.mark.parametrize("seed", range(150))
def test_no_damage_is_a_traceback_or_a_false_claim(whole: Path, tmp_path: Path, seed: int) -> None:
    """With any change, report, look-up, record and recovery succeed or raise one line, and no row becomes `stored`."""
    damaged = flipped(whole, tmp_path / "run.db", random.Random(seed))
    stored = {location for location, o in OUTCOMES.items() if o.outcome.is_success}
    with may_be_refused():
        shown = [entry.result for entry in read_entries(damaged)]
        assert {o.candidate.location for o in shown if o.outcome.is_success} <= stored
        assert len(shown) == ROWS
    with may_be_refused(), Ledger(Path(shutil.copy(damaged, tmp_path / "look.db")), URL) as ledger:
        candidates = [o.candidate for o in OUTCOMES.values()]
        for candidate, known in zip(candidates, ledger.look_up(candidates), strict=True):
            assert known is None or not known.outcome.is_success or candidate.location in stored
        ledger.owners([header(number).sop_instance_uid for number in range(ROWS)])
        ledger.orphaned_copies(10)
        ledger.conflicts(10)
        assert ledger.ceiling_bytes is None or ledger.ceiling_bytes > 0
        ledger.record([result(number) for number in range(ROWS, ROWS + 50)])
    with may_be_refused():
        recovered = recover(damaged)
    if not (tmp_path / "run-recovered.db").exists():
        return
    entries = {entry.result.candidate.location: entry.result for entry in read_entries(recovered.path)}
    assert len(entries) == recovered.files
    assert {location for location, o in entries.items() if o.outcome.is_success} <= stored
    # A page of the table holds some 25 rows, one of the index 40.
    assert recovered.files >= ROWS - 80


def test_a_whole_ledger_is_recovered_whole(whole: Path, tmp_path: Path) -> None:
    """Every row and every ceiling is copied, the old ledger does not change, and the new one works."""
    path = Path(shutil.copy(whole, tmp_path / "run.db"))
    recovered = recover(path)
    assert recovered == Recovered(tmp_path / "run-recovered.db", ROWS, 0, is_whole=True)
    assert [entry.result for entry in read_entries(recovered.path)] == list(OUTCOMES.values())
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(beside.name for beside in tmp_path.iterdir()) == ["run-recovered.db", "run.db"]
    assert recovered.path.stat().st_mode & 0o777 == 0o600
    with Ledger(recovered.path, URL) as ledger:
        assert ledger.ceiling_bytes == 2**20
        assert all(known is not None and known.is_final for known in ledger.look_up([result(7).candidate]))


@pytest.mark.parametrize("page", range(1, 22))
def test_a_page_that_is_gone_costs_its_own_rows(whole: Path, tmp_path: Path, page: int) -> None:
    """With one page overwritten, most rows are recovered unchanged, and missing rows are reported."""
    content = bytearray(whole.read_bytes())
    assert page <= len(content) // PAGE_BYTES
    content[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    (tmp_path / "run.db").write_bytes(content)
    if page == FILES_BEGIN:
        with pytest.raises(LedgerError, match=r"nothing that was recorded can be read in .*: give a new --ledger"):
            recover(tmp_path / "run.db")
        return
    recovered = recover(tmp_path / "run.db")
    assert all(OUTCOMES[e.result.candidate.location] == e.result for e in read_entries(recovered.path))
    assert recovered.files >= ROWS / 10 if page == INDEX_BEGINS else recovered.files >= ROWS / 2
    assert recovered.files == ROWS or recovered.left_out or not recovered.is_whole


def test_rows_in_the_wal_are_recovered(tmp_path: Path) -> None:
    """A killed run's last rows are recovered, and possibly missing rows are reported."""
    path = tmp_path / "run.db"
    left = tmp_path / "left.db"
    with Ledger(path, URL) as ledger:
        ledger.record(OUTCOMES.values())
        shutil.copy(path, left)
        shutil.copy(wal_of(path), wal_of(left))
    content = bytearray(left.read_bytes())
    content[:16] = bytes(16)
    left.write_bytes(content)
    assert recover(left) == Recovered(tmp_path / "left-recovered.db", ROWS, 0, is_whole=False)


def test_a_recovered_ledger_is_not_overwritten(whole: Path, tmp_path: Path) -> None:
    """An earlier recovered ledger may have been used since."""
    path = Path(shutil.copy(whole, tmp_path / "run.db"))
    (tmp_path / "run-recovered.db").write_text("precious")
    with pytest.raises(
        LedgerError, match=r"run-recovered\.db is there already: use it as the --ledger, or move it away"
    ):
        recover(path)
    assert (tmp_path / "run-recovered.db").read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"DICM" * 5000, None], ids=["empty", "foreign", "missing"])
def test_nothing_is_recovered_from_another_file(tmp_path: Path, content: bytes | None) -> None:
    """No file is left beside it."""
    if content is not None:
        (tmp_path / "run.db").write_bytes(content)
    with pytest.raises(LedgerError, match=r"nothing that was recorded can be read|no ledger at"):
        recover(tmp_path / "run.db")
    assert [beside.name for beside in tmp_path.iterdir()] == ([] if content is None else ["run.db"])


@pytest.mark.parametrize("seed", range(25))
def test_a_run_with_a_damaged_ledger(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The command ends with 0 or 1 and all files sent, or with 3 and one line with a remedy."""
    monkeypatch.chdir(tmp_path)
    flipped(whole, tmp_path / "run.db", random.Random(1000 + seed))
    write_batch(tmp_path / "archive", 3)
    with served() as url:
        ended = call(capsys, "upload", "archive", "--url", url, "--ledger", "run.db", "--progress", "none")
    assert ended.status in (0, 3)
    if ended.status == 3:
        (line,) = ended.err.splitlines()
        assert "--ledger" in line or "--recover" in line
    else:
        assert ended.err == ""
