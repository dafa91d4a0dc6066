"""Synthetic instances, as pydicom reads them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread

from bulkstow.errors import HeadError
from bulkstow.model import Candidate, Header
from bulkstow.source.heads import read_instance
from bulkstow.wire.part10 import read_head
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, dicomdir, part10
from tests.archives import header


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (16, 16), (128, 128), (300, 7)])
def test_pydicom_reads_it(rows: int, columns: int) -> None:
    """The file is a complete secondary capture: meta information, UIDs, and all pixels, padded to even length."""
    dataset = dcmread(io.BytesIO(part10(header(7), rows=rows, columns=columns, number=3)))
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == "2.25.1.1.7"
    assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID == SECONDARY_CAPTURE
    assert dataset.file_meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
    assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID) == ("2.25.1", "2.25.1.1")
    assert (dataset.Rows, dataset.Columns, dataset.InstanceNumber) == (rows, columns, 3)
    assert len(dataset.PixelData) == rows * columns + rows * columns % 2
    assert dataset.file_meta.FileMetaInformationGroupLength > 0


def test_tags_are_in_order() -> None:
    """The tags of a data set ascend (PS3.5 §7.1)."""
    tags = [element.tag for element in dcmread(io.BytesIO(part10(header(1))))]
    assert tags == sorted(set(tags))


def test_the_same_arguments_give_the_same_bytes() -> None:
    """The same number gives the same bytes, another one other pixels of the same size."""
    one, again, two = (part10(header(1), number=number) for number in (1, 1, 2))
    assert one == again != two
    assert len(one) == len(two)


def test_the_patient_is_fictitious() -> None:
    """The patient is fictitious."""
    dataset = dcmread(io.BytesIO(part10(header(1))))
    assert (dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate) == ("Nobody", "SYNTHETIC", "")


def test_the_fast_reader_reads_it() -> None:
    """The fast reader reads the UIDs."""
    file = part10(header(7))
    assert read_head(file, whole=True) == header(7)


def test_a_uid_need_not_be_one() -> None:
    """An instance without a UID can be generated."""
    odd = Header("2.25.1", "2.25.1.1", "no.uid.at.all", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
    assert b"no.uid.at.all" in part10(odd)


def test_a_dicomdir_is_no_instance(tmp_path: Path) -> None:
    """The head of a DICOMDIR is recognised as one."""
    (tmp_path / "DICOMDIR").write_bytes(dicomdir())
    with pytest.raises(HeadError, match="DICOMDIR"):
        read_instance(Candidate(str(tmp_path / "DICOMDIR"), len(dicomdir()), 0))
