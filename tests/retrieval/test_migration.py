"""Claims about whole uploads, plans and verifications from one server to another, with the command line."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.ledger import read_entries
from bulkstow.model import Header, Outcome
from bulkstow.server.faults import Operation
from bulkstow.server.login import Login
from bulkstow.server.read_terms import ReadTerms
from bulkstow.server.storage import DirectoryStorage
from bulkstow.wire.synthetic import part10
from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, call, end, running, served
from tests.retrieval.servers import archive

HELD = archive(studies=3, series=2, instances=10)
ROWS = 64


@dataclass(slots=True)
class Witness:
    """Counts the retrievals by the last UID in the path; `allowed` may refuse them."""

    retrieved: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    before: Callable[[web.Request], None] = lambda _request: None

    async def terms(self, request: web.Request, operation: Operation) -> ReadTerms:
        """Count a request."""
        if operation is Operation.RETRIEVE:
            self.retrieved[request.path.rpartition("/")[2]] += 1
            self.before(request)
        else:
            self.searches += 1
        return ReadTerms()


@dataclass(frozen=True, slots=True)
class Migration:
    """Two servers and a ledger."""

    source: str
    witness: Witness
    url: str
    target: DirectoryStorage
    directory: Path

    @property
    def ledger(self) -> Path:
        """The ledger."""
        return self.directory / "ledger.db"

    def words(self, command: str, *options: str) -> list[str]:
        """Return a command line."""
        progress = [] if command == "plan" else ["--progress", "none"]
        return [command, self.source, "--url", self.url, "--ledger", str(self.ledger), *progress, *options]

    def check_whole(self, held: list[Header]) -> None:
        """Check that each instance is recorded as stored, and is stored unchanged."""
        entries = [entry.result for entry in read_entries(self.ledger)]
        assert Counter(result.outcome for result in entries) == {Outcome.STORED: len(held)}
        assert {r.header.sop_instance_uid for r in entries if r.header} == {h.sop_instance_uid for h in held}
        digests = self.target.digests()
        for number, one in enumerate(held):
            content = part10(one, rows=ROWS, columns=ROWS, number=number)
            assert digests[one.sop_instance_uid] == sha256(content).hexdigest()


def hold(directory: Path, held: list[Header]) -> None:
    """Write instances as the storage of a server keeps them."""
    for number, one in enumerate(held):
        series = directory / one.study_uid / one.series_uid
        series.mkdir(parents=True, exist_ok=True)
        (series / f"{one.sop_instance_uid}.dcm").write_bytes(part10(one, rows=ROWS, columns=ROWS, number=number))


@pytest.fixture
def migration(tmp_path: Path) -> Iterator[Migration]:
    """Give two servers, the first one with instances."""
    stored, witness = tmp_path / "source", Witness()
    hold(stored, HELD)
    target = DirectoryStorage(tmp_path / "target")
    with served(DirectoryStorage(stored), read_fault=witness) as source, served(target) as url:
        yield Migration(f"dicomweb+{source}", witness, url, target, tmp_path)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_everything_is_moved_and_a_second_run_fetches_nothing(
    migration: Migration, capsys: pytest.CaptureFixture[str], processes: str
) -> None:
    """Each series is fetched once, sender processes read the spool, and a settled instance is never fetched again."""
    ended = call(capsys, *migration.words("upload", "--processes", processes))
    assert ended.status == 0, ended.says
    migration.check_whole(HELD)
    assert migration.witness.retrieved == Counter({one.series_uid: 1 for one in HELD}.keys())
    migration.witness.retrieved.clear()
    assert call(capsys, *migration.words("upload")).status == 0
    assert not migration.witness.retrieved


def test_a_plan_fetches_nothing(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """The announced UIDs are enough for a plan."""
    ended = call(capsys, *migration.words("plan", "--format", "json"))
    assert (ended.status, json.loads(ended.out)["to_send"]["files"]) == (0, len(HELD)), ended.says
    assert not migration.witness.retrieved


def test_both_servers_are_compared(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` compares the lists without fetching anything, and with --level content every byte."""
    assert call(capsys, *migration.words("upload")).status == 0
    migration.witness.retrieved.clear()
    assert call(capsys, *migration.words("verify", "--settle", "0s")).status == 0
    assert not migration.witness.retrieved
    # Another content of one instance at the target.
    wrong = HELD[7]
    (path,) = (migration.directory / "target").rglob(f"{wrong.sop_instance_uid}.dcm")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    ended = call(capsys, *migration.words("verify", "--settle", "0s", "--level", "content", "--format", "jsonl"))
    assert ended.status == 1
    assert wrong.sop_instance_uid in ended.out
    assert "PixelData" in ended.out
    # Without the source there is nothing to compare with.
    command, _, *others = migration.words("verify", "--settle", "0s", "--level", "content")
    ended = call(capsys, command, *others)
    assert ended.status == 1
    assert "on another machine: name the source" in ended.out


def test_a_small_spool_is_enough(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """With room for a few instances only, everything is moved all the same."""
    ended = call(capsys, *migration.words("upload", "--spool-bytes", "20kB"))
    assert ended.status == 0, ended.says
    migration.check_whole(HELD)


@pytest.mark.parametrize(
    ("options", "variable"),
    [(("--source-user", "ada"), "BULKSTOW_SOURCE_PASSWORD"), ((), "BULKSTOW_SOURCE_BEARER")],
    ids=["password", "token"],
)
def test_a_source_has_a_login_of_its_own(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    variable: str,
) -> None:
    """Its secret comes from its own variable, and neither the destination nor a file or a message gets it."""
    monkeypatch.setenv(variable, "s3cret")
    hold(tmp_path / "source", HELD[:1])
    source_login = Login(users={"ada": "s3cret"}, token="s3cret")
    target = DirectoryStorage(tmp_path / "target")
    with served(DirectoryStorage(tmp_path / "source"), login=source_login) as source, served(target) as url:
        migration = Migration(f"dicomweb+{source}", Witness(), url, target, tmp_path)
        ended = call(capsys, *migration.words("upload", *options))
        assert ended.status == 0, ended.says
    assert set(target.digests()) == {HELD[0].sop_instance_uid}
    assert "s3cret" not in ended.says
    assert b"s3cret" not in migration.ledger.read_bytes()


@pytest.mark.parametrize("command", ["upload", "plan", "verify"])
@pytest.mark.parametrize(("option", "value"), [("--min-age", "1d"), ("--max-size", "1MB")])
def test_filters_that_need_files_are_errors(
    migration: Migration, capsys: pytest.CaptureFixture[str], command: str, option: str, value: str
) -> None:
    """A filter that cannot be applied does not let everything through."""
    ended = call(capsys, *migration.words(command, option, value))
    assert ended.status == 2
    assert option in ended.err
    assert not migration.target.digests()


def test_a_name_with_a_password_leaves_nothing_in_the_ledger(
    migration: Migration, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the message nor a file has it."""
    named = replace(migration, source=migration.source.replace("http://", "http://ada:s3cret@"))
    ended = call(capsys, *named.words("upload"))
    assert ended.status == 2
    assert "s3cret" not in ended.says
    assert not migration.ledger.exists()


def test_filters_leave_out_what_is_not_fetched(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """A study that --studies does not name is neither listed nor fetched."""
    studies = migration.directory / "studies"
    studies.write_text("2.25.2\n")
    assert call(capsys, *migration.words("upload", "--studies", str(studies))).status == 0
    migration_of = [one for one in HELD if one.study_uid == "2.25.2"]
    assert set(migration.target.digests()) == {one.sop_instance_uid for one in migration_of}
    assert set(migration.witness.retrieved) == {one.series_uid for one in migration_of}


def test_shards_divide_the_studies(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """Together the shards move everything, each study in one of them."""
    for number in (1, 2):
        of_shard = replace(migration, directory=migration.directory / str(number))
        of_shard.directory.mkdir()
        assert call(capsys, *of_shard.words("upload", "--shard", f"{number}/2", "--allow-empty")).status == 0
    assert len(migration.target.digests()) == len(HELD)
    assert migration.witness.retrieved == Counter({one.series_uid: 1 for one in HELD}.keys())


def test_an_instance_that_is_not_sent_is_unreadable(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """The report has the server's message, and the next run fetches only that instance."""
    lost = HELD[3]

    def refuse(request: web.Request) -> None:
        path = request.path
        if path.endswith((f"/instances/{lost.sop_instance_uid}", f"/series/{lost.series_uid}")):
            raise web.HTTPGone(text="moved to tape")

    migration.witness.before = refuse
    ended = call(capsys, *migration.words("upload"))
    assert ended.status == 1
    (failure,) = [e.result for e in read_entries(migration.ledger) if e.result.outcome is not Outcome.STORED]
    assert failure.outcome is Outcome.UNREADABLE
    assert "WADO-RS answers HTTP 410 (moved to tape)" in failure.reason
    migration.witness.before = lambda _request: None
    migration.witness.retrieved.clear()
    assert call(capsys, *migration.words("upload")).status == 0
    migration.check_whole(HELD)
    assert migration.witness.retrieved == {lost.sop_instance_uid: 1}


def test_killed_midway_and_run_again(migration: Migration) -> None:
    """After kill -9 the rest is moved, and nothing that was recorded as stored is fetched again."""
    with running(*migration.words("upload", "--batch-instances", "2", "--concurrency", "1")) as process:
        deadline_s = time.monotonic() + PATIENCE_S
        while not migration.target.digests():
            assert time.monotonic() < deadline_s
            assert process.poll() is None
        process.kill()
        process.wait()
    settled = {
        entry.result.header.sop_instance_uid
        for entry in read_entries(migration.ledger)
        if entry.result.outcome is Outcome.STORED and entry.result.header is not None
    }
    assert len(settled) < len(HELD)
    by_series = Counter(one.series_uid for one in HELD if one.sop_instance_uid in settled)
    migration.witness.retrieved.clear()
    with running(*migration.words("upload")) as process:
        ended = end(process)
    assert ended.status == 0, ended.says
    migration.check_whole(HELD)
    assert not settled & set(migration.witness.retrieved)
    assert not set(by_series) & set(migration.witness.retrieved)


def test_stopped_midway(migration: Migration) -> None:
    """The first Ctrl-C ends the run in good order, although instances are being fetched."""
    with running(*migration.words("upload", "--batch-instances", "2", "--concurrency", "1")) as process:
        deadline_s = time.monotonic() + PATIENCE_S
        while not migration.target.digests():
            assert time.monotonic() < deadline_s
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        ended = end(process)
    assert ended.status in (0, 130), ended.says
    assert "Traceback" not in ended.says
    recorded = {e.result.header.sop_instance_uid for e in read_entries(migration.ledger) if e.result.header}
    assert recorded == set(migration.target.digests())


def test_the_newest_file_cannot_be_chosen(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """A server tells no modification times, and nothing could be sent before everything is fetched."""
    ended = call(capsys, *migration.words("upload", "--on-conflict", "newest"))
    assert ended.status == 2
    assert "--on-conflict newest compares modification times" in ended.err
    assert not migration.witness.retrieved


def test_edits_are_made_on_the_way(migration: Migration, capsys: pytest.CaptureFixture[str]) -> None:
    """Fetched instances are edited as files are, and verify knows that."""
    edits = migration.directory / "edits.toml"
    edits.write_text('[set]\nPatientID = "MOVED"\n')
    assert call(capsys, *migration.words("upload", "--edit", str(edits))).status == 0
    paths = list((migration.directory / "target").rglob("*.dcm"))
    assert len(paths) == len(HELD)
    assert all(b"MOVED" in path.read_bytes() for path in paths)
    words = migration.words("verify", "--edit", str(edits), "--settle", "0s", "--level", "content")
    ended = call(capsys, *words)
    assert ended.status == 0, ended.says


def test_one_kind_of_source_at_a_time(migration: Migration, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A server and a directory are sent by two runs."""
    write_instance(tmp_path / "files", 1)
    ended = call(capsys, *migration.words("upload", str(tmp_path / "files")))
    assert ended.status == 2
    assert "one kind of source at a time" in ended.err
