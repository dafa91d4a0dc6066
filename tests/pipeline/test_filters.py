"""Filters and files with one SOP Instance UID: a filter applies before files are compared, in every pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from bulkstow.config import UploadSettings
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Batch, Exchange, Header, Instance, NoResponse, Outcome, Referenced, Response, StoreResponse
from bulkstow.policy.globs import globs
from bulkstow.policy.retry import Backoff
from bulkstow.policy.selection import EVERYTHING, Filter, Selection
from bulkstow.progress.tally import Tally
from bulkstow.source.files import FileSource
from bulkstow.wire.store_response import to_json
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10
from tests.pipeline.runs import new_run

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


class Server:
    """A destination that stores every instance, except those refused by a function of their file."""

    def __init__(self, is_refused: Callable[[str], bool] = lambda _: False) -> None:
        self._is_refused = is_refused
        self.sent: list[str] = []

    async def send(self, batch: Batch) -> Exchange:
        """Store a batch, and record the names of its files."""
        stored, failed = [], []
        for instance in batch.instances:
            name = Path(instance.candidate.location).name
            self.sent.append(name)
            uids = instance.header.sop_class_uid, instance.header.sop_instance_uid
            if self._is_refused(name):
                failed.append(Referenced(*uids, 0x0122))
            else:
                stored.append(Referenced(*uids))
        return Response(200, to_json(StoreResponse(stored=tuple(stored), failed=tuple(failed))))

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str]:
        """Find nothing."""
        return frozenset()

    async def probe(self) -> Response | NoResponse:
        """Respond."""
        return Response(200, b"[]")


def write(path: Path, *, study: int, content: int = 0, modified_s: int = 1) -> None:
    """Write a file with the SOP Instance UID that all these files share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = Header(f"2.25.{study}", f"2.25.{study}.1", "2.25.9", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
    path.write_bytes(part10(head)[:-1] + bytes([content]))
    os.utime(path, (modified_s, modified_s))


async def upload(archive: Path, server: Server, selection: Selection, **changes: Any) -> Tally:
    """Carry out a run with a ledger beside the archive."""
    path = archive.with_name("l.db")
    settings = UploadSettings(ledger=path, **changes)
    tally = Tally()
    with Ledger(path, "http://pacs") as ledger, anyio.fail_after(PATIENCE_S):
        source = FileSource([str(archive)])
        run = new_run(settings, source, server, ledger, tally, selection=selection, backoff=Backoff(0.001, 0.005))
        await run.carry_out()
    return tally


def outcomes(archive: Path) -> dict[str, Outcome]:
    """Return the outcomes in the ledger by the file's name."""
    entries = read_entries(archive.with_name("l.db"))
    return {Path(entry.result.candidate.location).name: entry.result.outcome for entry in entries}


def without(pattern: str) -> Selection:
    """Return a selection with `--exclude`."""
    return Selection(exclude=globs("--exclude", [pattern]))


@pytest.mark.parametrize("mode", ["report", "send", "newest"])
@pytest.mark.parametrize(
    ("selection", "filter_"),
    [(without("b"), Filter.EXCLUDE), (Selection(studies=frozenset(["2.25.1"])), Filter.STUDIES)],
    ids=["by path", "by head"],
)
async def test_a_file_that_is_left_out_is_in_conflict_with_none(
    tmp_path: Path, mode: str, selection: Selection, filter_: Filter
) -> None:
    """The other file with its UID is sent, even if the file that is left out is newer or comes first."""
    archive, server = tmp_path / "archive", Server()
    write(archive / "a" / "b", study=2, modified_s=3)
    write(archive / "c" / "d", study=1, modified_s=2)
    tally = await upload(archive, server, selection, on_conflict=mode)
    assert (server.sent, outcomes(archive)) == (["d"], {"d": Outcome.STORED})
    assert (tally.left_out, tally.found_files) == ({filter_: 1}, 1)


async def test_a_copy_of_a_file_that_is_left_out_is_sent(tmp_path: Path) -> None:
    """Both have the same bytes; only one of them is selected."""
    archive, server = tmp_path / "archive", Server()
    write(archive / "a", study=1)
    write(archive / "b", study=1)
    await upload(archive, server, without("a"))
    assert (server.sent, outcomes(archive)) == (["b"], {"b": Outcome.STORED})


async def test_a_second_pass_has_selected_files_only(tmp_path: Path) -> None:
    """A copy is sent when the first file is refused, once; the figures of the filters are those of the first pass."""
    archive, server = tmp_path / "archive", Server(lambda name: name == "a")
    for name in ("a", "b", "left-out"):
        write(archive / name, study=1)
    write(archive / "z", study=2)
    selection = Selection(exclude=globs("--exclude", ["left-out"]), studies=frozenset(["2.25.1"]))
    tally = await upload(archive, server, selection)
    assert (server.sent, outcomes(archive)) == (["a", "b"], {"a": Outcome.REFUSED, "b": Outcome.STORED})
    assert tally.left_out == {Filter.EXCLUDE: 1, Filter.STUDIES: 1}
    assert (tally.found_files, tally.settled_files) == (2, 2)


async def test_files_in_conflict_are_sent_if_they_are_selected(tmp_path: Path) -> None:
    """With `--on-conflict send` the pass of conflicts has no file that is left out."""
    archive, server = tmp_path / "archive", Server()
    for content, name in enumerate(["a", "b", "left-out"]):
        write(archive / name, study=1, content=content)
    tally = await upload(archive, server, without("left-out"), on_conflict="send")
    assert (server.sent, tally.left_out) == (["a", "b"], {Filter.EXCLUDE: 1})


async def test_a_copy_that_changes_between_two_passes_does_not_keep_the_run_going(tmp_path: Path) -> None:
    """A later pass does not filter its files again: a file that it left out would stay an orphan."""
    archive = tmp_path / "archive"

    def refuse_and_change(name: str) -> bool:
        write(archive / "b", study=2, modified_s=5)
        return name == "a"

    for name in ("a", "b"):
        write(archive / name, study=1)
    server = Server(refuse_and_change)
    await upload(archive, server, Selection(studies=frozenset(["2.25.1"])))
    assert outcomes(archive)["a"] is Outcome.REFUSED
    assert server.sent.count("b") <= 2


async def test_a_settled_file_is_left_out_by_its_recorded_head(tmp_path: Path) -> None:
    """Its head is not read again; a file that was never readable keeps its outcome."""
    archive = tmp_path / "archive"
    write(archive / "a", study=1)
    (archive / "text").write_text("no DICOM")
    await upload(archive, Server(), EVERYTHING)
    server = Server()
    tally = await upload(archive, server, Selection(studies=frozenset(["2.25.2"])))
    assert (server.sent, tally.left_out) == ([], {Filter.STUDIES: 1})
    assert (tally.outcomes, tally.settled_before) == ({Outcome.SKIPPED: 1}, 1)
