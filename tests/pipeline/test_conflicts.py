"""Files with one SOP Instance UID and different content: which are sent, in which order, what becomes of the rest."""

from __future__ import annotations

import os
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkstow.config import UploadSettings
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import (
    Batch,
    Cause,
    Exchange,
    FileResult,
    Instance,
    NoResponse,
    Outcome,
    Referenced,
    Response,
    StoreResponse,
)
from bulkstow.policy.retry import Backoff
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.progress.tally import Tally
from bulkstow.source.files import FileSource
from bulkstow.wire.store_response import to_json
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.pipeline.runs import new_run

Mode = Literal["report", "send", "newest"]
MODES: tuple[Mode, ...] = ("report", "send", "newest")


class Server:
    """A destination that refuses some contents, and says which files it was sent."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self._refused = refused
        self._under_way: Counter[str] = Counter()
        self.requests: list[list[str]] = []
        self.sent: list[str] = []

    async def send(self, batch: Batch) -> Exchange:
        """Answer as the contents are."""
        uids = [i.header.sop_instance_uid for i in batch.instances]
        self._under_way.update(uids)
        assert max(self._under_way.values()) == 1, "two requests with one SOP Instance UID are under way"
        await anyio.lowlevel.checkpoint()
        names = [Path(i.candidate.location).name for i in batch.instances]
        self.requests.append(names)
        self.sent += names
        self._under_way.subtract(uids)
        items = {
            n: Referenced(i.header.sop_class_uid, i.header.sop_instance_uid) for n, i in enumerate(batch.instances)
        }
        bad = {n for n, i in enumerate(batch.instances) if content_of(i.candidate.location) in self._refused}
        failed = tuple(Referenced(items[n].sop_class_uid, items[n].sop_instance_uid, 0xA900) for n in bad)
        good = tuple(item for n, item in items.items() if n not in bad)
        return Response(202 if bad else 200, to_json(StoreResponse(stored=good, failed=failed)))

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Know nothing."""
        return frozenset()

    async def probe(self) -> Response | NoResponse:
        """Be there."""
        return Response(200, b"[]")


class Keeps(Server):
    """A destination that has every instance already."""

    async def send(self, batch: Batch) -> Exchange:
        """Say so."""
        uids = [Referenced(i.header.sop_class_uid, i.header.sop_instance_uid, 0x0111) for i in batch.instances]
        return Response(409, to_json(StoreResponse(failed=tuple(uids))))


def content_of(location: str) -> int:
    """Return the number in a file's pixels."""
    return Path(location).read_bytes()[-1]


def write(archive: Path, name: str, uid: int, content: int, modified_s: int) -> Path:
    """Write a file of instance `uid` whose pixels hold `content`."""
    path = archive / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(part10(header(uid))[:-1] + bytes([content]))
    os.utime(path, ns=(0, modified_s * 10**9 + 1))
    return path


async def upload(archive: Path, ledger: Path, server: Server, mode: Mode, *, retry_failed: bool = False) -> Tally:
    """Carry out a run."""
    settings = UploadSettings(ledger=ledger, on_conflict=mode, retry_failed=retry_failed)
    tally = Tally()
    with Ledger(ledger, "http://pacs") as opened:
        backoff, budget = Backoff(base_s=0.001, cap_s=0.005), RetryBudget(minimum_per_s=1000)
        run = new_run(
            settings,
            FileSource(
                [str(archive)],
                exclude=opened.files,
                accept_missing_preamble=settings.accept_missing_preamble,
                skip_truncated=settings.skip_truncated,
            ),
            server,
            opened,
            tally,
            backoff=backoff,
            budget=budget,
        )
        await run.carry_out()
    return tally


def rows(ledger: Path) -> dict[str, FileResult]:
    """Return the ledger's rows by file name."""
    return {Path(e.result.candidate.location).name: e.result for e in read_entries(ledger)}


@dataclass(frozen=True, slots=True)
class File:
    """A file of an archive: which instance, which content, when modified."""

    uid: int
    content: int
    modified_s: int


FILES = st.lists(st.builds(File, st.integers(0, 2), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=8)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
@given(files=FILES, refused=st.frozensets(st.integers(0, 3), max_size=2))
@example(files=[File(0, 0, 1), File(0, 1, 3), File(0, 1, 3), File(0, 2, 2)], refused=frozenset())
@example(files=[File(0, 0, 1), File(0, 1, 3), File(0, 1, 3), File(0, 2, 2)], refused=frozenset({1}))
def test_no_content_is_lost_in_silence(mode: Mode, files: list[File], refused: frozenset[int]) -> None:
    """Whatever the files of one UID hold: each outcome is true, the choice is the user's, and a second run agrees."""
    with tempfile.TemporaryDirectory() as directory:
        archive, ledger, server = Path(directory) / "archive", Path(directory) / "l.db", Server(refused)
        names = [f"{number:02}" for number in range(len(files))]
        for name, file in zip(names, files, strict=True):
            write(archive, name, file.uid, file.content, file.modified_s)
        tally = anyio.run(upload, archive, ledger, server, mode)
        told = rows(ledger)
        assert sorted(told) == names
        assert +tally.outcomes == Counter(result.outcome for result in told.values())
        of_uid: dict[int, dict[str, File]] = defaultdict(dict)
        for name, file in zip(names, files, strict=True):
            of_uid[file.uid][name] = file
        for several in of_uid.values():
            check(mode, several, {name: told[name].outcome for name in several}, server, refused)
        quiet = Server(refused)
        again = anyio.run(upload, archive, ledger, quiet, mode)
        assert quiet.requests == []
        assert +again.outcomes == +tally.outcomes


def check(
    mode: Mode, files: dict[str, File], outcomes: dict[str, Outcome], server: Server, refused: frozenset[int]
) -> None:
    """Check the outcomes of the files of one UID."""
    stored = {files[name].content for name, outcome in outcomes.items() if outcome is Outcome.STORED}
    for name, outcome in outcomes.items():
        content = files[name].content
        match outcome:
            case Outcome.STORED | Outcome.REFUSED:
                assert name in server.sent
                assert (outcome is Outcome.REFUSED) == (content in refused)
            case Outcome.SKIPPED:
                assert name not in server.sent
                assert content in stored
            case _:
                assert (outcome, name in server.sent) == (Outcome.CONFLICT, False)
                assert stored - {content}
    acceptable = {file.content for file in files.values()} - refused
    match mode:
        case "report":
            first = [name for name, file in files.items() if file.content not in refused][:1]
            assert [name for name, outcome in outcomes.items() if outcome is Outcome.STORED] == first
        case "send":
            assert stored == acceptable
        case "newest":
            newest = sorted(
                (name for name, file in files.items() if file.content not in refused),
                key=lambda name: (-files[name].modified_s, name),
            )
            assert [name for name, outcome in outcomes.items() if outcome is Outcome.STORED] == newest[:1]


@pytest.mark.anyio
async def test_send_sends_each_in_a_request_of_its_own(tmp_path: Path) -> None:
    """What is in conflict goes alone after the first, in path order; the outcome is the server's word."""
    archive, server = tmp_path / "archive", Server(frozenset({2}))
    for number in range(4):
        write(archive, f"a{number}", uid=1, content=number, modified_s=1)
        write(archive, f"b{number}", uid=2, content=number, modified_s=1)
        write(archive, f"c{number}", uid=3 + number, content=0, modified_s=1)
    write(archive, "d", uid=1, content=3, modified_s=1)
    tally = await upload(archive, tmp_path / "l.db", server, "send")
    first, *others = server.requests
    assert sorted([*first, *(n for names in others for n in names)]) == sorted(set(server.sent))
    assert all(len(names) == 1 for names in server.requests if names[0] in ("a1", "a2", "a3", "b1", "b2", "b3"))
    for letter in "ab":
        assert [name for name in server.sent if name[0] == letter] == [f"{letter}{number}" for number in range(4)]
    assert +tally.outcomes == Counter({Outcome.STORED: 10, Outcome.REFUSED: 2, Outcome.SKIPPED: 1})
    assert rows(tmp_path / "l.db")["d"].copy_of == str(archive / "a3")
    assert [Path(failure.candidate.location).name for failure in tally.failures] == ["a2", "b2"]


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "sent"), [("report", []), ("send", ["1", "2"]), ("newest", ["2"])])
async def test_a_conflict_of_an_earlier_run(tmp_path: Path, mode: Mode, sent: list[str]) -> None:
    """It is settled, and counts as a failure, until the user asks for something else than a report."""
    archive = tmp_path / "archive"
    for number in range(3):
        write(archive, f"{number}", uid=1, content=number, modified_s=1 + number)
    await upload(archive, tmp_path / "l.db", Server(), "report")
    server = Server()
    tally = await upload(archive, tmp_path / "l.db", server, mode)
    assert server.sent == sent
    assert (tally.outcomes[Outcome.CONFLICT], tally.failed) == (2 - len(sent), 2 - len(sent))
    assert tally.settled_before == (3 if mode == "report" else 1)


@pytest.mark.anyio
@pytest.mark.parametrize(("modified_s", "outcome"), [(1, Outcome.CONFLICT), (2, Outcome.CONFLICT), (3, Outcome.STORED)])
async def test_newest_replaces_what_an_earlier_run_sent(tmp_path: Path, modified_s: int, outcome: Outcome) -> None:
    """A newer file of an instance that is on the server is sent; one of the same time or older is in conflict."""
    archive = tmp_path / "archive"
    write(archive, "first", uid=1, content=1, modified_s=2)
    await upload(archive, tmp_path / "l.db", Server(), "newest")
    write(archive, "second", uid=1, content=2, modified_s=modified_s)
    server = Server()
    await upload(archive, tmp_path / "l.db", server, "newest")
    assert rows(tmp_path / "l.db")["second"].outcome is outcome
    assert server.sent == (["second"] if outcome is Outcome.STORED else [])


@pytest.mark.anyio
async def test_newest_sends_nothing_where_the_newest_is_on_the_server(tmp_path: Path) -> None:
    """A copy of what an earlier run sent, with a later time, stands for its bytes against files in between."""
    archive = tmp_path / "archive"
    write(archive, "first", uid=1, content=1, modified_s=2)
    await upload(archive, tmp_path / "l.db", Server(), "newest")
    write(archive, "between", uid=1, content=2, modified_s=3)
    write(archive, "copy", uid=1, content=1, modified_s=4)
    server = Server()
    tally = await upload(archive, tmp_path / "l.db", server, "newest")
    assert server.sent == []
    assert +tally.outcomes == Counter({Outcome.STORED: 1, Outcome.SKIPPED: 1, Outcome.CONFLICT: 1})


@pytest.mark.anyio
async def test_newest_hears_of_all_before_it_sends(tmp_path: Path) -> None:
    """The newest file is sent and no other, wherever in the archive it lies, and however often it is named."""
    archive = tmp_path / "archive"
    for number in range(600):
        write(archive, f"{number % 3}/{number}", uid=number // 3, content=number % 3, modified_s=1 + number % 3)
    server, tally = Server(), Tally()
    with Ledger(tmp_path / "l.db", "http://pacs") as ledger:
        run = new_run(
            UploadSettings(on_conflict="newest"),
            FileSource([str(archive / "0"), str(archive / "2"), str(archive / "1"), str(archive / "2")]),
            server,
            ledger,
            tally,
        )
        await run.carry_out()
    assert Counter(server.sent) == Counter(str(number) for number in range(2, 600, 3))
    assert +tally.outcomes == Counter({Outcome.STORED: 200, Outcome.CONFLICT: 400})
    assert tally.found_files == 600


@pytest.mark.anyio
@pytest.mark.parametrize("mode", MODES)
async def test_an_interrupted_run_goes_on(tmp_path: Path, mode: Mode) -> None:
    """What was drained before its turn is neither lost nor called sent: the next run sends it."""
    archive = tmp_path / "archive"
    for number in range(3):
        write(archive, f"{number}", uid=1, content=number, modified_s=1 + number)
    with Ledger(tmp_path / "l.db", "http://pacs") as ledger:
        server = Server()
        run = new_run(UploadSettings(on_conflict=mode), FileSource([str(archive)]), server, ledger, Tally())

        async def drain(batch: Batch) -> Exchange:
            run.drain()
            return NoResponse(Cause.DISCONNECTED, body_started=True)

        server.send = drain  # type: ignore[method-assign]
        await run.carry_out()
    assert not any(result.outcome.is_success for result in rows(tmp_path / "l.db").values())
    server = Server()
    await upload(archive, tmp_path / "l.db", server, mode)
    assert server.sent == {"report": ["0"], "send": ["0", "1", "2"], "newest": ["2"]}[mode]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["send", "newest"])
async def test_a_server_that_keeps_what_it_has(tmp_path: Path, mode: Mode) -> None:
    """'Already there' is no success for a file with other content: it is a failure that names the other file."""
    archive = tmp_path / "archive"
    write(archive, "first", uid=1, content=1, modified_s=1)
    await upload(archive, tmp_path / "l.db", Server(), mode)
    write(archive, "second", uid=1, content=2, modified_s=2)

    tally = await upload(archive, tmp_path / "l.db", Keeps(), mode)
    assert +tally.outcomes == Counter({Outcome.STORED: 1, Outcome.REFUSED: 1})
    assert str(archive / "first") in rows(tmp_path / "l.db")["second"].reason


@pytest.mark.anyio
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("added", "outcome"), [(b"\0\0", Outcome.REFUSED), (b"", Outcome.DUPLICATE)], ids=["other content", "other time"]
)
async def test_a_changed_file_on_a_server_that_keeps_what_it_has(
    tmp_path: Path, mode: Mode, added: bytes, outcome: Outcome
) -> None:
    """'Already there' is true of the file as it was: where that has other content for certain, it is a failure."""
    archive = tmp_path / "archive"
    path = write(archive, "file", uid=1, content=1, modified_s=1)
    await upload(archive, tmp_path / "l.db", Server(), mode)
    path.write_bytes(path.read_bytes() + added)
    os.utime(path, ns=(0, 2 * 10**9))
    tally = await upload(archive, tmp_path / "l.db", Keeps(), mode)
    assert +tally.outcomes == Counter({outcome: 1})
    assert ("/file before it changed, which has other content" in rows(tmp_path / "l.db")["file"].reason) == bool(added)


@pytest.mark.anyio
@pytest.mark.parametrize("at_once", [True, False], ids=["in one run", "in two runs"])
async def test_copies_of_a_file_that_changed_are_compared_again(tmp_path: Path, at_once: bool) -> None:
    """What was equal to the file as it was is no copy of what the server then has."""
    archive = tmp_path / "archive"
    path = write(archive, "a/first", uid=1, content=1, modified_s=1)
    write(archive, "b/copy", uid=1, content=1, modified_s=1)
    await upload(archive, tmp_path / "l.db", Server(), "report")
    assert rows(tmp_path / "l.db")["copy"].outcome is Outcome.SKIPPED
    write(archive, "a/first", uid=1, content=2, modified_s=2)
    if not at_once:
        await upload(path.parent, tmp_path / "l.db", Server(), "report")
    await upload(archive, tmp_path / "l.db", Server(), "report")
    assert {name: row.outcome for name, row in rows(tmp_path / "l.db").items()} == {
        "first": Outcome.STORED,
        "copy": Outcome.CONFLICT,
    }
