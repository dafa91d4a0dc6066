"""bulkstow as a library: what it offers, what it costs to import, what it raises."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web

import bulkstow
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.ledger import read_entries
from bulkstow.model import Batch, Exchange, FileResult, Instance, Outcome, Referenced, Response, StoreResponse
from bulkstow.ports import Destination
from bulkstow.quantities import Shard
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from bulkstow.wire.store_response import to_json
from bulkstow.wire.synthetic import SECONDARY_CAPTURE, part10
from tests.archives import header, write_instance
from tests.memory_source import MemorySource

pytestmark = pytest.mark.anyio


class Listen:
    """A fault that does nothing but remember the headers of store requests."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    async def before(self, request: web.Request, number: int) -> None:
        """Remember them."""
        self.headers.append(dict(request.headers))

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Go on."""
        return response


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give four instances."""
    for number in range(4):
        write_instance(tmp_path / "archive", number)
    return tmp_path / "archive"


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
def listen() -> Listen:
    """Give a server's ear."""
    return Listen()


@pytest.fixture
async def url(storage: DiscardStorage, listen: Listen) -> AsyncIterator[str]:
    """Give a server."""
    async with serving(Origin(storage, fault=listen)) as url:
        yield url


def test_all_is_what_is_public() -> None:
    """`__all__` names every public name of the package that is no module of it, and each of them has a docstring."""
    for name in bulkstow.__all__:
        getattr(bulkstow, name)  # some are imported only now
    public = {name for name, value in vars(bulkstow).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert set(bulkstow.__all__) == public - {"annotations", "TYPE_CHECKING"} | set(bulkstow._MODULES)
    assert list(bulkstow.__all__) == sorted(bulkstow.__all__)
    assert all(inspect.getdoc(getattr(bulkstow, name)) for name in bulkstow.__all__)


def test_every_exception_that_leaves_is_public() -> None:
    """Who catches RunStopped can tell its kinds apart by name."""
    subclasses = bulkstow.RunStopped.__subclasses__()
    assert {kind.__name__ for kind in subclasses} <= set(bulkstow.__all__)


def test_it_is_typed() -> None:
    """The marker of PEP 561 is in the package."""
    assert (resources.files("bulkstow") / "py.typed").is_file()


def test_importing_it_is_cheap() -> None:
    """Neither the HTTP library nor pydicom nor the command line's is loaded before it is needed."""
    code = (
        "import sys, bulkstow; print(*{'aiohttp', 'pydicom', 'cyclopts', 'tqdm', 'anyio', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (run.stdout, run.stderr) == ("\n", "")


def kept(tmp_path: Path, **changes: Any) -> UploadSettings:
    """Return settings with a ledger in the test's directory."""
    return UploadSettings(ledger=tmp_path / "l.db", **changes)


async def test_paths_with_headers(
    archive: Path, tmp_path: Path, url: str, storage: DiscardStorage, listen: Listen, capfd: pytest.CaptureFixture[str]
) -> None:
    """Paths as str and as Path are sent with the headers that were given; figures come back, nothing is shown."""
    one, two, three = (archive / f"IM00100000{number}" for number in range(3))
    summary = await bulkstow.upload(
        [one, str(two), three],
        DestinationSettings(url=url, header=("X-Tenant: a b: c", "User-Agent: mine")),
        kept(tmp_path),
    )
    assert isinstance(summary, bulkstow.Summary)
    assert summary.outcomes == dict.fromkeys(Outcome, 0) | {Outcome.STORED: 3}
    assert (summary.complete, summary.failures, summary.destination) == (True, 0, url)
    assert len(storage.digests()) == 3
    assert listen.headers
    assert {(headers["X-Tenant"], headers["User-Agent"]) for headers in listen.headers} == {("a b: c", "mine")}
    assert capfd.readouterr() == ("", "")


async def test_an_iterator_of_paths(archive: Path, tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """Sources are walked through once."""
    await bulkstow.upload((archive / f"IM00100000{number}" for number in range(4)), url, kept(tmp_path))
    assert len(storage.digests()) == 4


async def test_again_sends_nothing(archive: Path, tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """The same ledger makes the second call a look."""
    for expected in (0, 4):
        summary = await bulkstow.upload(archive, url, kept(tmp_path))
        assert summary.settled_before == expected
    assert storage.received == 4


async def test_a_failure_is_counted_not_raised(archive: Path, tmp_path: Path, url: str) -> None:
    """A file that cannot be sent is a figure."""
    (archive / "cut").write_bytes((archive / "IM001000001").read_bytes()[:200])
    summary = await bulkstow.upload(archive, url, kept(tmp_path))
    assert (summary.failures, summary.outcomes[Outcome.UNREADABLE]) == (1, 1)


@pytest.mark.parametrize(
    ("sources", "destination", "message"),
    [
        (["gone"], {}, "no such file or directory: 'gone'"),
        ([], {"url": ""}, "--url is missing"),
        ([], {"url": "pacs"}, "expected http"),
        ([], {"header": ("no name: x",)}, "--header number 1"),
        ([], {"header": ("X: a\nb",)}, "--header number 1"),
        ([], {"ca_file": Path("gone")}, "certificates gone cannot be loaded"),
    ],
    ids=["source", "no URL", "URL", "header name", "header value", "CA file"],
)
async def test_a_wrong_argument_is_raised(
    archive: Path, tmp_path: Path, url: str, sources: Sequence[str], destination: dict[str, Any], message: str
) -> None:
    """ConfigurationError, itself and in no group, before anything is sent."""
    with pytest.raises(bulkstow.ConfigurationError, match=message):
        await bulkstow.upload([archive, *sources], DestinationSettings(**({"url": url} | destination)), kept(tmp_path))


async def test_objects_that_do_not_fit_are_raised(tmp_path: Path, url: str) -> None:
    """An object that is no source is ConfigurationError, and so is a login for a destination that logs in by itself."""
    with pytest.raises(bulkstow.ConfigurationError, match=r"subclass of bulkstow\.Source"):
        await bulkstow.upload(7, url, kept(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(bulkstow.ConfigurationError, match="logs in by itself"):
        await bulkstow.upload(MemorySource({}), Memory(), kept(tmp_path), auth=Fixed("right"))


async def test_nobody_there_is_raised(archive: Path, tmp_path: Path) -> None:
    """DestinationRefused, itself and in no group."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(bulkstow.DestinationRefused, match="cannot connect to"):
            await bulkstow.upload(archive, url, kept(tmp_path))


async def test_a_wrong_url_is_raised(archive: Path, tmp_path: Path, url: str) -> None:
    """DestinationRefused, itself and in no group."""
    with pytest.raises(bulkstow.DestinationRefused, match=r"no DICOMweb service at .*/wrong"):
        await bulkstow.upload(archive, f"{url}/wrong", kept(tmp_path))


class Fixed:
    """A login with a token that is handed in."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def authorize(self, request: bulkstow.AuthRequest) -> dict[str, str]:
        """Authorize every request."""
        return {"Authorization": f"Bearer {self._token}"}

    async def refresh(self, refused: Mapping[str, str]) -> bool:
        """Refresh nothing."""
        return False


async def test_a_wrong_login_is_raised(archive: Path, tmp_path: Path, storage: DiscardStorage) -> None:
    """LoginRefused, itself and in no group; with the right header or login it goes through."""
    async with serving(Origin(storage, login=Login(token="right"))) as url:
        for header in ((), ("Authorization: Bearer wrong",)):
            with pytest.raises(bulkstow.LoginRefused, match="401"):
                await bulkstow.upload(archive, DestinationSettings(url=url, header=header), kept(tmp_path))
        with pytest.raises(bulkstow.LoginRefused, match="401"):
            await bulkstow.upload(archive, url, kept(tmp_path), auth=Fixed("wrong"))
        await bulkstow.upload(archive / "IM001000000", url, kept(tmp_path), auth=Fixed("right"))
        right = DestinationSettings(url=url, header=("Authorization: Bearer right",))
        await bulkstow.upload(archive, right, kept(tmp_path))
    assert storage.received == 4


async def test_a_ledger_that_is_none_is_raised(archive: Path, tmp_path: Path, url: str) -> None:
    """LedgerError, itself and in no group; the file is left as it is."""
    (tmp_path / "l.db").write_text("not a ledger at all")
    with pytest.raises(bulkstow.LedgerError, match="file is not a database"):
        await bulkstow.upload(archive, url, kept(tmp_path))
    assert (tmp_path / "l.db").read_text() == "not a ledger at all"


@pytest.fixture
def two_versions(tmp_path: Path) -> tuple[Path, Path]:
    """Give two files with one SOP Instance UID, the older and the newer."""
    older, newer = tmp_path / "older", tmp_path / "newer"
    content = Path(write_instance(tmp_path / "one", 9).candidate.location).read_bytes()
    older.write_bytes(content)
    newer.write_bytes(content + b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0")
    os.utime(older, (1, 1))
    return older, newer


async def test_a_conflict_is_decided_as_the_caller_says(
    two_versions: tuple[Path, Path], tmp_path: Path, url: str
) -> None:
    """Of two files with one UID and other content the one modified last is sent."""
    older, newer = two_versions
    await bulkstow.upload(two_versions, url, kept(tmp_path, on_conflict="newest"))
    results = {entry.result.candidate.location: entry.result.outcome for entry in read_entries(tmp_path / "l.db")}
    assert results == {str(older): Outcome.CONFLICT, str(newer): Outcome.STORED}


def in_memory(count: int = 4) -> MemorySource:
    """Return a source of several instances with as much pixel data each as several segments hold, and a text."""
    contents = {f"{number}.dcm": part10(header(number), rows=40, columns=40) for number in range(count)}
    return MemorySource(contents | {"notes": b"not DICOM"})


async def test_an_object_is_a_source(tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """Its instances arrive byte for byte; run again, only an instance with another version is opened and sent."""
    source = in_memory()
    digests = {
        header(number).sop_instance_uid: sha256(source.contents[f"{number}.dcm"]).hexdigest() for number in range(4)
    }
    first = await bulkstow.upload(source, url, kept(tmp_path))
    assert (first.outcomes[Outcome.STORED], first.outcomes[Outcome.SKIPPED], first.failures) == (4, 1, 0)
    assert storage.digests() == digests

    source.opened.clear()
    again = await bulkstow.upload(source, url, kept(tmp_path))
    assert (again.settled_before, again.requests, source.opened) == (5, 0, [])

    source.versions["2.dcm"] = "2"
    changed = await bulkstow.upload(source, url, kept(tmp_path))
    assert (changed.settled_before, source.opened) == (4, ["2.dcm"])
    assert {entry.result.candidate.version for entry in read_entries(tmp_path / "l.db")} == {"1", "2"}


class Unreadable(MemorySource):
    """A source of which nothing can be read when it is sent."""

    def open(self, instance: Instance) -> Generator[memoryview]:
        """Fail."""
        yield from ()
        raise OSError(5, "Input/output error")


async def test_an_error_of_the_storage_is_not_the_servers(tmp_path: Path, url: str) -> None:
    """An OSError of `open` makes an instance unreadable; it is no lost connection, and nothing is retried."""
    summary = await bulkstow.upload(Unreadable(in_memory().contents), url, kept(tmp_path))
    assert (summary.outcomes[Outcome.UNREADABLE], summary.failures) == (4, 4)
    reasons = {entry.result.reason for entry in read_entries(tmp_path / "l.db") if entry.result.header}
    assert reasons == {"cannot be read: Input/output error"}


class Hanging(MemorySource):
    """A source whose storage does not answer until `may_end`."""

    may_end = threading.Event()

    def scan(self) -> Iterator[Sequence[bulkstow.Candidate | FileResult]]:
        """Yield a list, and wait."""
        yield from super().scan()
        self.may_end.wait()


async def test_a_scan_that_hangs_ends_the_run(tmp_path: Path, url: str) -> None:
    """After the read timeout, as an error of the storage and not of the settings."""
    source = Hanging(in_memory().contents)
    settings = kept(tmp_path, read_timeout_s=0.2)
    with pytest.raises(bulkstow.StorageGone, match="the source cannot be scanned: the storage has not answered"):
        await bulkstow.upload(source, url, settings)
    source.may_end.set()


async def test_copies_in_an_object_are_compared(tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """A second content with the same UID is a copy or in conflict by its bytes, as a second file would be."""
    source = in_memory(1)
    content = source.contents["0.dcm"]
    source.contents |= {"copy": content, "other": content[:-1] + b"\7"}
    source.versions |= {"copy": "1", "other": "1"}
    summary = await bulkstow.upload(source, url, kept(tmp_path))
    expected = {Outcome.STORED: 1, Outcome.SKIPPED: 2, Outcome.CONFLICT: 1}
    assert summary.outcomes == dict.fromkeys(Outcome, 0) | expected
    assert storage.received == 1


async def test_content_that_changes_while_it_is_sent_is_unreadable(tmp_path: Path, url: str) -> None:
    """An instance that its source refuses to open costs itself only."""
    source = in_memory()

    class Changing(MemorySource):
        def read_head(self, candidate: bulkstow.Candidate) -> bulkstow.Instance:
            instance = super().read_head(candidate)
            if candidate.location == "memory:1.dcm":
                self.versions["1.dcm"] = "2"
            return instance

    summary = await bulkstow.upload(Changing(source.contents), url, kept(tmp_path))
    assert (summary.outcomes[Outcome.STORED], summary.outcomes[Outcome.UNREADABLE]) == (3, 1)
    (reason,) = (e.result.reason for e in read_entries(tmp_path / "l.db", [Outcome.UNREADABLE]))
    assert reason == "version '1', now '2'"


class Memory(Destination):
    """A destination that keeps the UIDs of what it is sent."""

    name = "memory"

    def __init__(self) -> None:
        self.uids: set[str] = set()

    async def send(self, batch: Batch) -> Exchange:
        """Store everything."""
        uids = [instance.header.sop_instance_uid for instance in batch.instances]
        self.uids.update(uids)
        return Response(200, to_json(StoreResponse(stored=tuple(Referenced(SECONDARY_CAPTURE, uid) for uid in uids))))

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str]:
        """Find what was sent."""
        return frozenset(self.uids.intersection(i.header.sop_instance_uid for i in instances))

    async def probe(self) -> Response:
        """Respond."""
        return Response(200, b"[]")


async def test_an_object_is_a_destination(archive: Path, tmp_path: Path) -> None:
    """It gets all batches; the ledger and the summary know it by its name."""
    destination = Memory()
    summary = await bulkstow.upload(archive, destination, kept(tmp_path))
    assert destination.uids == {header(number).sop_instance_uid for number in range(4)}
    assert (summary.destination, summary.failures) == ("memory", 0)
    assert {entry.destination for entry in read_entries(tmp_path / "l.db")} == {"memory"}


@pytest.mark.parametrize("destination", [5, None, b"http://h", object(), Destination])
async def test_what_is_no_destination_is_named(archive: Path, tmp_path: Path, destination: Any) -> None:
    """Before a ledger is opened."""
    with pytest.raises(bulkstow.ConfigurationError, match="destination: expected a URL"):
        await bulkstow.upload(archive, destination, kept(tmp_path))
    assert not (tmp_path / "l.db").exists()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"source": 5}, "source: expected paths or a subclass of bulkstow.Source, not 5"),
        ({"source": [None]}, r"source: expected paths or a subclass of bulkstow.Source, not \[None\]"),
        ({"settings": {}}, "settings: expected bulkstow.UploadSettings, not a dict"),
        ({"auth": "Bearer x"}, "auth: expected the protocol bulkstow.Auth, not a str"),
    ],
    ids=["no paths", "no path", "no settings", "no login"],
)
async def test_a_wrong_type_is_named(archive: Path, argument: dict[str, Any], words: str) -> None:
    """A wrong argument is a ConfigurationError that names it; a login is not repeated."""
    arguments: dict[str, Any] = {"source": archive, "destination": "http://127.0.0.1:1/dicom-web"} | argument
    with pytest.raises(bulkstow.ConfigurationError, match=f"^{words}$"):
        await bulkstow.upload(**arguments)


class Broken(MemorySource):
    """A source whose scan fails."""

    def scan(self) -> Iterator[Sequence[bulkstow.Candidate | FileResult]]:
        """Yield a list, and fail."""
        yield from super().scan()
        raise OSError(5, "Input/output error")


async def test_a_scan_that_fails_ends_the_run(tmp_path: Path, url: str) -> None:
    """An OSError of a source's scan is StorageGone, in no group."""
    with pytest.raises(bulkstow.StorageGone, match="the source cannot be scanned: Input/output error"):
        await bulkstow.upload(Broken(in_memory().contents), url, kept(tmp_path))


async def test_a_shard_is_a_part_of_files_only(tmp_path: Path) -> None:
    """An object chooses its instances by itself: its whole would be sent by every shard."""
    settings = kept(tmp_path, shard=Shard(1, 2))
    with pytest.raises(bulkstow.ConfigurationError, match=r"--shard 1/2: a Source chooses its instances by itself"):
        await bulkstow.upload(in_memory(), Memory(), settings)
