"""Files that are deleted once Orthanc lists their instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.orthanc.archives import synthetic
from tests.orthanc.command import Upload
from tests.orthanc.servers import Orthanc

pytestmark = pytest.mark.orthanc


def test_files_are_deleted_when_orthanc_has_their_instances(orthanc: Orthanc, tmp_path: Path) -> None:
    """Every instance is there and every file is gone; nothing else in the source is touched."""
    archive = tmp_path / "incoming"
    files = synthetic(archive, studies=3, instances=40, rows=16)
    (archive / "notes.txt").write_text("not DICOM")
    upload = Upload(archive, orthanc.url, tmp_path, ("--progress", "none", "--after-stored", "delete"))
    ended = upload.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert files.keys() <= orthanc.instances()
    assert [path.name for path in archive.rglob("*")] == ["notes.txt"]
    summary = upload.summary()
    assert (summary["disposed"], summary["kept"]) == (120, {"skipped": 1})
