"""`--dicomdir` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkstow.ledger import read_entries
from bulkstow.model import Outcome
from bulkstow.server.storage import DiscardStorage
from tests.archives import header, write_instance
from tests.cli.command import call, served
from tests.source.test_dicomdir import referenced, write_dicomdir


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Give a file set of instances 1 and 2, whose DICOMDIR also references a missing one, and a foreign file."""
    for number in (1, 2, 3):
        write_instance(tmp_path / "disc" / "DICOM", number)
    write_dicomdir(tmp_path / "disc" / "DICOMDIR", referenced((1, 2, 9), "DICOM"))
    return tmp_path / "disc"


def test_a_file_set_is_sent_and_what_is_missing_fails(
    disc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two instances arrive; the missing one is a failure, the foreign one is skipped; without the flag it is sent."""
    storage = DiscardStorage(remember=True)
    ledger = tmp_path / "l.db"
    with served(storage) as url:
        ended = call(capsys, "upload", str(disc), "--url", url, "--ledger", str(ledger), "--dicomdir")
        assert ended.status == 1
        assert set(storage.digests()) == {header(n).sop_instance_uid for n in (1, 2)}
        outcomes = {Path(e.result.candidate.location).name: e.result.outcome for e in read_entries(ledger)}
        assert outcomes == {
            "IM001000001": Outcome.STORED,
            "IM001000002": Outcome.STORED,
            "IM001000003": Outcome.SKIPPED,
            "IM001000009": Outcome.UNREADABLE,
            "DICOMDIR": Outcome.SKIPPED,
        }
        call(capsys, "upload", str(disc), "--url", url, "--ledger", str(ledger))
    assert set(storage.digests()) == {header(n).sop_instance_uid for n in (1, 2, 3)}


def test_a_plan_of_a_file_set_counts_the_same_files(disc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`plan` takes the flag, too: two files to send, one missing."""
    ended = call(capsys, "plan", str(disc / "DICOMDIR"), "--dicomdir", "--ledger", str(disc / "l.db"))
    assert ended.status == 1
    assert "to send: 2 files" in ended.out


@pytest.mark.parametrize("flags", [("--files-from", "list"), ("--shard", "1/2")])
def test_file_sets_are_named_and_whole(
    disc: Path, tmp_path: Path, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of files and a shard cannot tell which references are missing."""
    (tmp_path / "list").write_text(f"{disc}\n")
    words = [str(tmp_path / "list") if word == "list" else word for word in flags]
    with served(DiscardStorage()) as url:
        ended = call(
            capsys, "upload", str(disc), "--url", url, "--ledger", str(tmp_path / "l.db"), "--dicomdir", *words
        )
    assert ended.status == 2
    assert "--dicomdir: name the file sets themselves" in ended.err
