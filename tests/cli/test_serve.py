"""`bulkstow serve`: the embedded origin in the foreground."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bulkstow.wire.multipart import content_type
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.cli.command import PATIENCE_S, running
from tests.server.samples import BOUNDARY, body_of


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """Start a server on a free port, and give the process, its URL and its first line."""
    with running("serve", *words, "--port", "0", environment=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:\d+\S*", line)
        assert found, line
        yield process, found[0], line


def store(url: str, file: bytes, **headers: str) -> tuple[int, bytes]:
    """Post one instance and return the status and the answer."""
    request = urllib.request.Request(
        f"{url}/studies", body_of(file), {"Content-Type": content_type(BOUNDARY), **headers}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_stores_until_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    """The server prints its URL and stores STUDY/SERIES/INSTANCE.dcm; a signal ends it with 0."""
    file = part10(header(1), number=1)
    with serving("kept", "--root", "/rs") as (process, url, line):
        assert line == f"serving {url} (instances are stored in kept); Ctrl-C ends it\n"
        assert url.endswith("/rs")
        status, answer = store(url, file)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, b"")
    assert status == 200
    assert json.loads(answer)["00081199"]["Value"]
    assert (tmp_path / "kept" / "2.25.1" / "2.25.1.1" / "2.25.1.1.1.dcm").read_bytes() == file


def test_nothing_is_kept(tmp_path: Path) -> None:
    """--discard acknowledges everything and creates no file."""
    with serving("--discard") as (_, url, line):
        assert "(instances are discarded)" in line
        assert store(url, part10(header(1)))[0] == 200
    assert list(tmp_path.rglob("*.dcm")) == []


def test_a_login_is_asked_for() -> None:
    """--user requires the password of the environment, which is not shown."""
    with serving("--discard", "--user", "ada", BULKSTOW_PASSWORD="s3cret") as (process, url, line):
        file = part10(header(1))
        right, wrong = (f"Basic {base64.b64encode(pair).decode()}" for pair in (b"ada:s3cret", b"ada:other"))
        assert [store(url, file)[0], store(url, file, Authorization=wrong)[0]] == [401, 401]
        assert store(url, file, Authorization=right)[0] == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert "s3cret" not in line + out.decode() + err.decode()


def test_its_settings_come_from_a_file(tmp_path: Path) -> None:
    """The table [serve] of --config sets its settings, sizes with units."""
    Path("c.toml").write_text(
        "[serve]\nroot = '/from-file'\ndiscard = true\nmax-part-bytes = '1KiB'\n[upload]\nretries = 1\n"
    )
    with serving("--config", "c.toml") as (_, url, _line):
        assert url.endswith("/from-file")
        assert store(url, part10(header(1), rows=64, columns=64))[0] in (409, 413)
        assert store(url, part10(header(1), rows=1, columns=1))[0] == 200
