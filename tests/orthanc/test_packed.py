"""All test files, packed in archives, sent to an Orthanc: the same is there, and the rest has the same reasons."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from bulkstow.model import Outcome
from tests.orthanc.archives import header, synthetic
from tests.orthanc.command import Upload
from tests.orthanc.conftest import Alone, StartOrthanc
from tests.orthanc.servers import Orthanc
from tests.orthanc.test_interruptions import INSTANCES, SLOWLY, STUDIES, stored_by, wait_for_midway

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
    """The same instances are there, and those of archives in the tree; each one not sent has the same reason."""
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


@pytest.mark.parametrize("processes", ["1", "3"], ids=["one process", "three processes"])
def test_killed_midway_and_run_again(orthanc: Orthanc, tmp_path: Path, processes: str) -> None:
    """SIGKILL: the ledger calls nothing stored that Orthanc has not; run again, only the rest is sent."""
    files = synthetic(tmp_path / "files", studies=STUDIES, instances=INSTANCES)
    (tmp_path / "packed").mkdir()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    for number, method in enumerate(methods, 1):
        with zipfile.ZipFile(tmp_path / "packed" / f"{number}.zip", "w", method) as archive:
            for path in sorted((tmp_path / "files" / f"study{number:02}").iterdir()):
                archive.write(path, path.name)
    with tarfile.open(tmp_path / "packed" / "4.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "files" / "study04", "study04")
    upload = Upload(tmp_path / "packed", orthanc.url, tmp_path, (*SLOWLY, "--processes", processes))
    with upload.running() as running:
        wait_for_midway(orthanc, running)
        running.process.kill()
        running.wait()
    first = stored_by(upload)
    assert first <= orthanc.instances()
    assert len(first) < len(files)

    assert upload.run().status == 0
    assert stored_by(upload) == orthanc.instances() == files.keys()
    assert upload.summary()["settled_before"] == len(first)
