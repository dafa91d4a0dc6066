"""Other ways to the same end: by curl, in one request, with headers, from Python."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import bulkstow as library
from tests.orthanc.archives import synthetic
from tests.orthanc.command import Upload, bulkstow
from tests.orthanc.conftest import StartOrthanc
from tests.orthanc.servers import PATIENCE_S, Orthanc

pytestmark = pytest.mark.orthanc

TENANT = "1234567890"

ONLY_TENANT = f"""
function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)
  return string.sub(uri, 1, 10) ~= '/dicom-web' or httpHeaders['x-tenant'] == '{TENANT}'
end
"""
"""Orthanc's own check that the header came along: 403 where it did not."""

ONE_REQUEST = ("--batch-bytes", "unlimited", "--batch-instances", "unlimited", "--affinity", "none")


@pytest.fixture
def tenant(start_orthanc: StartOrthanc) -> Iterator[Orthanc]:
    """Give an Orthanc that wants a header."""
    orthanc = start_orthanc(lua=ONLY_TENANT)
    yield orthanc
    orthanc.kill()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give a clean archive."""
    return tmp_path / "archive of nobody"


@pytest.fixture
def files(archive: Path) -> dict[str, Path]:
    """Give its files by SOP Instance UID, more of them than a batch holds by default."""
    return synthetic(archive, studies=3, instances=100, rows=64)


def test_one_request_for_everything(orthanc: Orthanc, archive: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """Without limits and without affinity, three studies travel in one request."""
    upload = Upload(archive, orthanc.url, tmp_path, ("--progress", "none", *ONE_REQUEST))
    ended = upload.run()
    assert (ended.status, ended.stderr) == (0, "")
    summary = upload.summary()
    assert (summary["requests"], summary["retries"], summary["outcomes"]["stored"]) == (1, 0, len(files))
    assert orthanc.instances() == files.keys()


def test_a_header_goes_along(tenant: Orthanc, archive: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """--header 'x-tenant: …' is on every request; without it Orthanc forbids, and the run stops with 3."""
    without = Upload(archive, tenant.url, tmp_path).run()
    assert (without.status, len(without.stderr.splitlines())) == (3, 1)
    assert "403" in without.stderr
    assert tenant.count() == 0

    with_it = Upload(archive, tenant.url, tmp_path, ("--progress", "none", "--header", f"x-tenant: {TENANT}")).run()
    assert (with_it.status, with_it.stderr) == (0, "")
    assert tenant.instances() == files.keys()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the program curl is not installed")
def test_a_body_for_curl(orthanc: Orthanc, archive: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """The file that `bulkstow body` writes, sent by the command that it prints, stores everything."""
    output = tmp_path / "request with space.bin"
    ended = bulkstow("body", str(archive), "--output", str(output), "--url", orthanc.url)
    assert (ended.status, ended.stderr) == (0, "")
    (command,) = (line for line in ended.stdout.splitlines() if line.startswith("curl "))
    curl = subprocess.run([*shlex.split(command), "--silent", "--fail"], capture_output=True, timeout=PATIENCE_S)
    assert curl.returncode == 0
    assert orthanc.instances() == files.keys()
    for uid, path in files.items():
        study_uid, series_uid = uid.rsplit(".", 2)[0], uid.rsplit(".", 1)[0]
        assert orthanc.read_back(study_uid, series_uid, uid) == path.read_bytes()


@pytest.mark.anyio
async def test_from_python(tenant: Orthanc, archive: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """`await bulkstow.upload(…)` stores everything and returns the figures; again, it sends nothing."""

    async def upload() -> library.Summary:
        return await library.upload(
            archive,
            library.DestinationSettings(url=tenant.url, header=(f"x-tenant: {TENANT}",)),
            library.UploadSettings(ledger=tmp_path / "ledger.db"),
        )

    first = await upload()
    assert (first.outcomes[library.Outcome.STORED], first.failures, first.complete) == (len(files), 0, True)
    assert await anyio.to_thread.run_sync(tenant.instances) == files.keys()
    again = await upload()
    assert (again.requests, again.settled_before) == (0, len(files))


@pytest.mark.anyio
async def test_from_python_without_the_header(tenant: Orthanc, archive: Path, files: dict[str, Path]) -> None:
    """An error that no retry fixes is an exception from Python, too."""
    with pytest.raises(library.LoginRefused, match="403"):
        await library.upload(archive, tenant.url, library.UploadSettings(ledger=archive.parent / "ledger.db"))


@pytest.mark.anyio
@pytest.mark.parametrize("root", ["", "/dicomweb", "/dicom-web/studies/1.2.3"])
async def test_a_wrong_root_is_found_out_before_a_file_leaves(
    orthanc: Orthanc, archive: Path, files: dict[str, Path], tmp_path: Path, root: str
) -> None:
    """What lies beside the DICOMweb root is no DICOMweb service."""
    url = f"http://127.0.0.1:{orthanc.port}{root}"
    with pytest.raises(library.DestinationRefused, match=f"no DICOMweb service at {url}"):
        await library.upload(archive, url, library.UploadSettings(ledger=tmp_path / "other.db"))
    assert orthanc.count() == 0
    assert files
