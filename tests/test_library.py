"""bulkstow as a library: what it offers, what it costs to import, what it raises."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web

import bulkstow
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.ledger import read_entries
from bulkstow.model import Outcome, StoreResponse
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance

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
    assert set(bulkstow.__all__) == public - {"annotations", "TYPE_CHECKING"} | {"Outcome", "Summary"}
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


def test_its_defaults_are_those_of_the_settings() -> None:
    """A call and the command line do the same unless they are told otherwise."""
    settings, destination = UploadSettings(), DestinationSettings(url="http://pacs.example")
    for name, parameter in inspect.signature(bulkstow.upload).parameters.items():
        if name in ("sources", "url", "headers"):
            continue
        owner = settings if hasattr(settings, name) else destination
        expected = getattr(owner, name, None)
        assert parameter.default == (str(expected) if name in ("ledger", "concurrency") else expected), name


async def test_paths_with_headers(
    archive: Path, tmp_path: Path, url: str, storage: DiscardStorage, listen: Listen, capfd: pytest.CaptureFixture[str]
) -> None:
    """Paths as str and as Path are sent with the headers that were given; figures come back, nothing is shown."""
    one, two, three = (archive / f"IM00100000{number}" for number in range(3))
    summary = await bulkstow.upload(
        [one, str(two), three], url=url, headers={"X-Tenant": "a b: c", "User-Agent": "mine"}, ledger=tmp_path / "l.db"
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
    await bulkstow.upload((archive / f"IM00100000{number}" for number in range(4)), url=url, ledger=tmp_path / "l.db")
    assert len(storage.digests()) == 4


async def test_again_sends_nothing(archive: Path, tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """The same ledger makes the second call a look."""
    for expected in (0, 4):
        summary = await bulkstow.upload([archive], url=url, ledger=tmp_path / "l.db")
        assert summary.settled_before == expected
    assert storage.received == 4


async def test_a_failure_is_counted_not_raised(archive: Path, tmp_path: Path, url: str) -> None:
    """A file that cannot be sent is a figure."""
    (archive / "cut").write_bytes((archive / "IM001000001").read_bytes()[:200])
    summary = await bulkstow.upload([archive], url=url, ledger=tmp_path / "l.db")
    assert (summary.failures, summary.outcomes[Outcome.UNREADABLE]) == (1, 1)


@pytest.mark.parametrize(
    ("sources", "changes", "message"),
    [
        (["gone"], {}, "no such file or directory: 'gone'"),
        ([], {"url": ""}, "--url is missing"),
        ([], {"url": "pacs"}, "expected http"),
        ([], {"concurrency": 0}, "--concurrency 0"),
        ([], {"headers": {"no name": "x"}}, "--header number 1"),
        ([], {"headers": {"X": "a\nb"}}, "--header number 1"),
        ([], {"ca_file": "gone"}, "certificates gone cannot be loaded"),
    ],
    ids=["source", "no URL", "URL", "number", "header name", "header value", "CA file"],
)
async def test_a_wrong_argument_is_raised(
    archive: Path, tmp_path: Path, url: str, sources: Sequence[str], changes: dict[str, object], message: str
) -> None:
    """ConfigurationError, itself and in no group, before anything is sent."""
    arguments: dict[str, object] = {"url": url, "ledger": tmp_path / "l.db"} | changes
    with pytest.raises(bulkstow.ConfigurationError, match=message):
        await bulkstow.upload([archive, *sources], **arguments)  # type: ignore[arg-type]


async def test_nobody_there_is_raised(archive: Path, tmp_path: Path) -> None:
    """DestinationRefused, itself and in no group."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(bulkstow.DestinationRefused, match="cannot connect to"):
            await bulkstow.upload([archive], url=url, ledger=tmp_path / "l.db")


async def test_a_wrong_url_is_raised(archive: Path, tmp_path: Path, url: str) -> None:
    """DestinationRefused, itself and in no group."""
    with pytest.raises(bulkstow.DestinationRefused, match=r"no DICOMweb service at .*/wrong"):
        await bulkstow.upload([archive], url=f"{url}/wrong", ledger=tmp_path / "l.db")


async def test_a_wrong_login_is_raised(archive: Path, tmp_path: Path, storage: DiscardStorage) -> None:
    """LoginRefused, itself and in no group; with the right header it goes through."""
    async with serving(Origin(storage, login=Login(token="right"))) as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(bulkstow.LoginRefused, match="401"):
                await bulkstow.upload([archive], url=url, headers=headers, ledger=tmp_path / "l.db")
        await bulkstow.upload([archive], url=url, headers={"Authorization": "Bearer right"}, ledger=tmp_path / "l.db")
    assert storage.received == 4


async def test_a_ledger_that_is_none_is_raised(archive: Path, tmp_path: Path, url: str) -> None:
    """LedgerError, itself and in no group; the file is left as it is."""
    (tmp_path / "l.db").write_text("not a ledger at all")
    with pytest.raises(bulkstow.LedgerError, match="file is not a database"):
        await bulkstow.upload([archive], url=url, ledger=tmp_path / "l.db")
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
    await bulkstow.upload(two_versions, url=url, ledger=tmp_path / "l.db", on_conflict="newest")
    results = {entry.result.candidate.location: entry.result.outcome for entry in read_entries(tmp_path / "l.db")}
    assert results == {str(older): Outcome.CONFLICT, str(newer): Outcome.STORED}
