"""Everything at hand, packed in archives, sent to an Orthanc: the same is there, and the rest has the same reasons."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from bulkstow.model import Outcome
from tests.orthanc.archives import header
from tests.orthanc.command import Upload
from tests.orthanc.conftest import Alone, StartOrthanc

pytestmark = pytest.mark.orthanc

IN_CONTAINERS = {header(90, 1), *(header(97, number) for number in (1, 2, 3, 4))}
"""Instances that are only in archives and compressed files of the tree."""

WITHOUT_COPIES = {Outcome.SKIPPED.value, Outcome.UNREADABLE.value}


def pack(mixed: Path, directory: Path) -> None:
    """Pack the parts of the tree as a deflated zip, a compressed tar and a plain tar, whose names are not UTF-8."""
    directory.mkdir()
    with zipfile.ZipFile(directory / "pydicom", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((mixed / "pydicom").rglob("*")):
            archive.write(path, path.relative_to(mixed / "pydicom"))
    for name, mode in (("pydicom-data", "w:gz"), ("odd", "w")):
        with tarfile.open(directory / name, mode) as archive:  # type: ignore[call-overload]
            archive.add(mixed / name, ".")


def test_packed_files_come_to_what_files_come_to(
    start_orthanc: StartOrthanc, mixed: Path, alone: Alone, tmp_path: Path
) -> None:
    """The same instances are there, and those of archives in the tree; what was not sent has the same reason."""
    pack(mixed, tmp_path / "packed")
    orthanc = start_orthanc()
    options = ("--progress", "none", "--accept-missing-preamble")
    packed = Upload(tmp_path / "packed", orthanc.url, tmp_path, options)
    packed.run()
    there = orthanc.instances()
    assert there == alone.instances | {uids.sop_instance_uid for uids in IN_CONTAINERS}
    found = {
        line["path"].replace(f"{tmp_path}/packed", str(mixed)).replace("!/", "/", 1): line for line in packed.report()
    }
    plan = Upload(mixed, orthanc.url, tmp_path / "plain", options)
    (tmp_path / "plain").mkdir()
    plan.run()
    for line in plan.report():
        if line["outcome"] not in WITHOUT_COPIES or "copy" in line["reason"]:
            continue
        again = found[line["path"]]
        assert (again["outcome"], again["reason"]) == (line["outcome"], line["reason"]), line["path"]
    assert packed.run().status == 1
    assert packed.summary()["delivered"] == 0
    orthanc.kill()
