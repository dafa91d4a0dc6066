"""`bulkstow body`: the body of a request for another program."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.model import StoreResponse
from bulkstow.server.storage import DirectoryStorage
from bulkstow.wire.multipart_reader import MultipartReader, PartData, boundary_of
from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, call, served

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the program curl is not on this machine")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give three instances, a copy of one, and junk."""
    for number in range(3):
        write_instance(tmp_path / "my archive", number)
    (tmp_path / "my archive" / "zcopy").write_bytes((tmp_path / "my archive" / "IM001000001").read_bytes())
    (tmp_path / "my archive" / "notes.txt").write_text("hello")
    return tmp_path / "my archive"


def content_type_of(command: str) -> str:
    """Return the media type in a curl command."""
    words = shlex.split(command)
    return words[words.index("-H") + 1].removeprefix("Content-Type: ")


@pytest.mark.usefixtures("archive")
def test_the_body_holds_every_instance_once(capsys: pytest.CaptureFixture[str], archive: Path) -> None:
    """The parts are the files, byte for byte and in the order of their names, without copies and junk."""
    ended = call(capsys, "body", "my archive", "--output", "my request")
    assert (ended.status, ended.err) == (0, "")
    note, command = ended.out.splitlines()
    body = Path("my request").read_bytes()
    assert note == f"# my request: {len(body):,} bytes, 3 instances"
    reader = MultipartReader(boundary_of(content_type_of(command)))
    pieces = b"".join(event.data for event in reader.feed(body) if isinstance(event, PartData))
    reader.finish()
    assert pieces == b"".join((archive / f"IM00100000{number}").read_bytes() for number in range(3))


def test_what_cannot_be_sent_is_named(capsys: pytest.CaptureFixture[str], archive: Path) -> None:
    """Files that may be instances but are left out are listed, and the exit status is 1."""
    (archive / "cut").write_bytes((archive / "IM001000000").read_bytes()[:300])
    ended = call(capsys, "body", str(archive))
    assert (ended.status, ended.err) == (1, f"left out: '{archive}/cut': cut off in its head\n")
    assert "3 instances" in ended.out


@pytest.mark.usefixtures("archive")
def test_its_own_output_is_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    """A body that is written among the sources, twice, contains only the instances."""
    for _ in range(2):
        ended = call(capsys, "body", ".", "--output", "request.bin")
        assert "3 instances" in ended.out


@needs_curl
@pytest.mark.usefixtures("archive")
def test_the_command_stores_the_instances(capsys: pytest.CaptureFixture[str], archive: Path, tmp_path: Path) -> None:
    """The printed command, given to a shell, stores everything."""
    with served(DirectoryStorage(tmp_path / "stored")) as url:
        ended = call(capsys, "body", "my archive", "--output", "my request", "--url", f"{url}/")
        curl = subprocess.run(ended.out, shell=True, capture_output=True, timeout=PATIENCE_S)
    assert curl.returncode == 0, curl.stderr
    stored = {path.read_bytes() for path in (tmp_path / "stored").rglob("*.dcm")}
    assert stored == {path.read_bytes() for path in archive.glob("IM*")}


class Listen:
    """A fault that keeps the bodies that it receives."""

    body = b""
    content_type = ""

    async def before(self, request: web.Request, number: int) -> web.StreamResponse:
        """Read the body."""
        self.content_type = request.headers["Content-Type"]
        self.body = b"".join([piece async for piece in request.content.iter_any()])
        return web.Response()

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Do nothing."""
        return response


@needs_curl
@pytest.mark.usefixtures("archive")
def test_a_server_receives_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """curl sends the written body with the printed media type."""
    listen = Listen()
    with served(fault=listen) as url:
        ended = call(capsys, "body", "my archive", "--url", url)
        subprocess.run(ended.out, shell=True, capture_output=True, timeout=PATIENCE_S, check=True)
    assert listen.body == Path("request.bin").read_bytes() != b""
    assert listen.content_type == content_type_of(ended.out.splitlines()[1])
