"""Storage that does not answer: one read hangs, the rest is sent, and the run ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkstow.ledger import read_entries
from bulkstow.model import Fate
from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance
from tests.cli.command import call, served

FILES = 40
LIMIT = "400ms"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give two studies in a directory each."""
    for study in (1, 2):
        for number in range(FILES // 2):
            write_instance(tmp_path / f"archive/d{study}", number, study=study)
    return tmp_path / "archive"


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Give an event that nothing sets before the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def hanging(call: Callable[..., Any], name: str, never: threading.Event) -> Callable[..., Any]:
    """Return a system call that does not return for a path that ends with `name`."""

    def hang(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str) and path.endswith(name):
            never.wait()
        return call(path, *arguments, **options)

    return hang


def outcomes(tmp_path: Path) -> dict[str, tuple[Fate, str]]:
    """Return what the ledger says, by name."""
    entries = [entry.outcome for entry in read_entries(tmp_path / "bulkstow.db")]
    return {Path(o.candidate.location).name: (o.fate, o.reason) for o in entries}


@pytest.mark.parametrize(
    ("system_call", "name", "stored", "says"),
    [
        ("open", "IM001000003", FILES - 1, "cannot be read: the storage has not answered for"),
        ("scandir", "d1", FILES // 2, "a directory that cannot be listed: the storage has not answered for"),
    ],
    ids=["head", "directory"],
)
def test_what_hangs_is_unreadable_and_the_rest_is_stored(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    system_call: str,
    name: str,
    stored: int,
    says: str,
) -> None:
    """After the limit the run goes on without it and ends with its true status."""
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        monkeypatch.setattr(os, system_call, hanging(getattr(os, system_call), name, never))
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", LIMIT)
    assert ended.status == 1
    assert len(storage.digests()) == stored
    fate, reason = outcomes(tmp_path)[name]
    assert (fate, reason.startswith(says)) == (Fate.UNREADABLE, True)


def test_a_comparison_that_hangs_is_given_up(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy whose bytes cannot be compared is a failure; all else is stored."""
    original = archive / "d1/IM001000003"
    (archive / "d2/copy").write_bytes(original.read_bytes())
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        monkeypatch.setattr(
            "bulkstow.pipeline.comparison.open_file",
            hanging(lambda path, **_: os.open(path, os.O_RDONLY), "copy", never),
        )
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", LIMIT)
    assert ended.status == 1
    assert len(storage.digests()) == FILES
    found = outcomes(tmp_path)
    assert [name for name, (fate, _) in found.items() if fate is Fate.UNREADABLE] in (["copy"], [original.name])


def test_a_source_that_hangs_is_told_at_the_start(
    capsys: pytest.CaptureFixture[str], archive: Path, never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and the source is named."""
    monkeypatch.setattr(os, "stat", hanging(os.stat, "archive", never))
    ended = call(capsys, "upload", "archive", "--url", "http://127.0.0.1:9", "--read-timeout", LIMIT)
    assert ended.status == 2
    assert "cannot look at 'archive': the storage has not answered for" in ended.err
