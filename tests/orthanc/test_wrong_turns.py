"""Errors that no retry fixes, told in one line: a wrong login, a wrong URL."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orthanc.archives import synthetic
from tests.orthanc.command import Ended, Upload
from tests.orthanc.conftest import StartOrthanc
from tests.orthanc.servers import Orthanc

pytestmark = pytest.mark.orthanc

USER, PASSWORD, WRONG = "alice", "wonderland-8472", "looking-glass-1939"


@pytest.fixture
def locked(start_orthanc: StartOrthanc) -> Iterator[Orthanc]:
    """Give an Orthanc that asks for a login."""
    orthanc = start_orthanc(users={USER: PASSWORD})
    yield orthanc
    orthanc.kill()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give a small archive."""
    synthetic(tmp_path / "archive")
    return tmp_path / "archive"


def stopped_with_one_line(ended: Ended) -> str:
    """Check that a run was stopped as a user would have it, and return its one line."""
    assert ended.status == 3
    assert "Traceback" not in ended.says
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("login", "environment"),
    [
        (("--user", USER), {"BULKSTOW_PASSWORD": WRONG}),
        ((), {"BULKSTOW_BEARER": WRONG}),
        ((), {}),
    ],
    ids=["password", "bearer", "none"],
)
def test_wrong_login(
    locked: Orthanc, archive: Path, tmp_path: Path, login: tuple[str, ...], environment: dict[str, str]
) -> None:
    """A login that Orthanc refuses: exit status 3, one line that says so, the secret nowhere, nothing stored."""
    upload = Upload(archive, locked.url, tmp_path, ("--progress", "none", *login), environment)
    ended = upload.run()
    assert "login (401)" in stopped_with_one_line(ended)
    for secret in (WRONG, b64encode(f"{USER}:{WRONG}".encode()).decode()):
        assert secret not in ended.says
        assert secret.encode() not in upload.ledger.read_bytes()
    assert locked.count() == 0


def test_right_login(locked: Orthanc, archive: Path, tmp_path: Path) -> None:
    """--user with BULKSTOW_PASSWORD stores everything, and the password shows nowhere."""
    options = ("--progress", "log", "--user", USER)
    ended = Upload(archive, locked.url, tmp_path, options, {"BULKSTOW_PASSWORD": PASSWORD}).run()
    assert ended.status == 0
    assert PASSWORD not in ended.says
    assert locked.count() == 20


def test_wrong_root(orthanc: Orthanc, archive: Path, tmp_path: Path) -> None:
    """A URL that is no DICOMweb root: exit status 3, and one line that speaks of the URL."""
    upload = Upload(archive, orthanc.url.replace("/dicom-web", "/wrong"), tmp_path)
    assert "no DICOMweb service at http:" in stopped_with_one_line(upload.run())
    assert orthanc.count() == 0


def test_nobody_there(orthanc: Orthanc, archive: Path, tmp_path: Path) -> None:
    """A server that is not running: exit status 3, and one line that names it."""
    orthanc.kill()
    line = stopped_with_one_line(Upload(archive, orthanc.url, tmp_path).run())
    assert f"cannot connect to {orthanc.url}" in line


def test_right_after_wrong(locked: Orthanc, archive: Path, tmp_path: Path) -> None:
    """A run that was stopped leaves nothing behind that keeps the same ledger from the next one."""
    options = ("--progress", "none", "--user", USER)
    assert Upload(archive, locked.url, tmp_path, options, {"BULKSTOW_PASSWORD": WRONG}).run().status == 3
    assert Upload(archive, locked.url, tmp_path, options, {"BULKSTOW_PASSWORD": PASSWORD}).run().status == 0
    assert locked.count() == 20
