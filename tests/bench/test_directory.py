"""Loads made of files."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian

from bulkstow.bench import directory
from bulkstow.bench.workload import Generated, workload
from bulkstow.errors import ConfigurationError
from bulkstow.wire.synthetic import dicomdir
from tests.archives import write_batch

RUN = "20260101-abc"

REAL = ["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "JPEG2000.dcm", "test-SR.dcm", "examples_palette.dcm"]
"""Explicit, big endian, implicit, encapsulated, without pixels."""


def file_of(generated: Generated) -> bytes:
    """Return the bytes that would be sent."""
    return b"".join(generated.pieces())


@pytest.mark.parametrize("name", REAL)
def test_a_copy_is_the_file_under_other_uids(tmp_path: Path, name: str) -> None:
    """UIDs, number, and what names the patient are new; every other element is as it was."""
    source = Path(str(get_testdata_file(name)))
    (tmp_path / name).write_bytes(source.read_bytes())
    generated = workload(str(tmp_path), RUN).instance(1, 4)
    header = generated.instance.header
    content = file_of(generated)
    assert len(content) == generated.instance.candidate.size_bytes
    copy, original = dcmread(io.BytesIO(content)), dcmread(source)
    assert copy.SOPInstanceUID == copy.file_meta.MediaStorageSOPInstanceUID == header.sop_instance_uid
    assert (copy.StudyInstanceUID, copy.SeriesInstanceUID) == (header.study_uid, header.series_uid)
    assert copy.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID == header.transfer_syntax_uid
    assert (copy.PatientName, copy.StudyDescription) == ("", f"bulkstow-bench-{RUN}")
    assert copy.PatientID.startswith(f"bulkstow-bench-{RUN}.00001.")
    changed = {
        *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber"),
        *("PatientName", "PatientID", "StudyDescription", "AccessionNumber"),
    }
    for dataset in (copy, original):
        for keyword in changed:
            if keyword in dataset:
                del dataset[keyword]
    assert copy == original


def test_files_of_one_study_stay_together(tmp_path: Path) -> None:
    """Each turn through the files makes studies of its own, divided like those of the directory."""
    write_batch(tmp_path, 3, study=1)
    write_batch(tmp_path, 2, study=2)
    load = workload(str(tmp_path), RUN)
    headers = [load.instance(0, number).instance.header for number in range(10)]
    assert sorted(Counter(header.study_uid for header in headers).values()) == [2, 2, 3, 3]
    assert len({header.series_uid for header in headers}) == 4
    assert len({header.sop_instance_uid for header in headers}) == 10
    assert load.name == f"5 files of {tmp_path}"


def test_what_is_no_instance_is_passed_over(tmp_path: Path) -> None:
    """Text, a DICOMDIR, a broken file and a deflated one: the instance among them is what is left."""
    write_batch(tmp_path, 1)
    (tmp_path / "DICOMDIR").write_bytes(dicomdir())
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "cut").write_bytes(bytes(128) + b"DICM" + b"\x02\x00")
    deflated = dcmread(str(get_testdata_file("image_dfl.dcm")))
    assert deflated.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    deflated.save_as(tmp_path / "deflated.dcm")
    assert workload(str(tmp_path), RUN).name.startswith("1 files")


def test_a_directory_without_instances_is_refused(tmp_path: Path) -> None:
    """There is nothing to send, and the message says what was looked for."""
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigurationError, match="expected DICOM files of 512 MiB at most, found none"):
        workload(str(tmp_path), RUN)


@pytest.mark.parametrize(
    ("limit", "value", "expected"), [("FILES_MOST", 3, 3), ("SIZE_MOST_BYTES", 2_000, 2), ("FILES_MOST", 99, 5)]
)
def test_what_is_kept_in_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, expected: int
) -> None:
    """The first files by name, as many as fit: by count and by bytes."""
    size_bytes = write_batch(tmp_path, 5).instances[0].candidate.size_bytes
    assert size_bytes < 1_000
    monkeypatch.setattr(directory, limit, value)
    assert workload(str(tmp_path), RUN).name.startswith(f"{expected} files")
