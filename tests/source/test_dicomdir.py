"""File sets: the files that a DICOMDIR references, as a source."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from bulkstow.blocking import Worker
from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.ports import Found
from bulkstow.source import dicomdir
from bulkstow.source.dicomdir import FileSetSource, root_of
from bulkstow.source.paths import find_source
from tests.archives import header, instance_in, write_instance

Record = tuple[Sequence[str], str]


def write_dicomdir(path: Path, records: Iterable[Record], *, in_use: int = 0xFFFF) -> None:
    """Write a DICOMDIR with a record for each File ID and SOP Instance UID."""
    data_set = Dataset()
    data_set.FileSetID = "TEST"
    data_set.DirectoryRecordSequence = [_record(file_id, uid, in_use) for file_id, uid in records]
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data_set.file_meta.MediaStorageSOPInstanceUID = UID("2.25.99")
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, data_set, enforce_file_format=True)


def _record(file_id: Sequence[str], uid: str, in_use: int) -> Dataset:
    record = Dataset()
    record.RecordInUseFlag = in_use
    record.DirectoryRecordType = "IMAGE"
    with pydicom.config.disable_value_validation():  # names that PS3.10 does not allow occur
        record.add_new("ReferencedFileID", "CS", list(file_id))
    record.ReferencedSOPInstanceUIDInFile = uid
    return record


def referenced(numbers: Iterable[int], *above: str) -> list[Record]:
    """Return records for instances as `write_instance` writes them."""
    return [((*above, f"IM001{n:06}"), header(n).sop_instance_uid) for n in numbers]


def source(*names: Path, follow_links: bool = False) -> FileSetSource:
    """Return a source of file sets."""
    within = [find_source(str(name)) for name in names]
    return FileSetSource(map(str, names), within=within, follow_links=follow_links)


def scanned(files: FileSetSource) -> dict[str, Found]:
    """Return all results of the scan by location."""
    walk = files.scan()
    found = [one for gathered in iter(lambda: walk.run_steps(Worker()), []) for one in gathered]
    by_location = {(one.candidate if isinstance(one, FileResult) else one).location: one for one in found}
    assert len(by_location) == len(found)
    return by_location


def outcomes(root: Path, found: dict[str, Found]) -> dict[str, str]:
    """Return the reason for each file that is not passed on, empty for the others, by its path below `root`."""
    return {os.path.relpath(path, root): _reason(one) for path, one in found.items()}


def _reason(found: Found) -> str:
    return "" if isinstance(found, Candidate) else f"{found.outcome}: {found.reason}"


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Make a directory with instances 1 to 3, of which a DICOMDIR references 1, 2 and one that is missing."""
    disc = tmp_path / "disc"
    for number in (1, 2, 3):
        write_instance(disc / "DICOM", number)
    write_dicomdir(disc / "DICOMDIR", referenced((1, 2, 9), "DICOM"))
    return disc


@pytest.mark.parametrize("named", ["", "DICOMDIR"])
def test_referenced_files_are_found_and_all_others_have_a_reason(disc: Path, named: str) -> None:
    """By its directory or by its own name: two candidates, a missing file, a file that no record references."""
    assert outcomes(disc, scanned(source(disc / named))) == {
        "DICOMDIR": "",  # its head gives it an outcome
        "DICOM/IM001000001": "",
        "DICOM/IM001000002": "",
        "DICOM/IM001000003": f"skipped: not referenced by DICOMDIR {disc / 'DICOMDIR'}",
        "DICOM/IM001000009": f"unreadable: referenced by DICOMDIR {disc / 'DICOMDIR'}, not there",
    }


@pytest.mark.parametrize(
    ("directory", "name", "index"),
    [
        ("dicom", "im001000001", "dicomdir"),
        ("DICOM", "IM001000001;1", "DICOMDIR;1"),
        ("DICOM", "im001000001.;1", "DicomDir.;1"),
        ("DICOM", "IM001000001.", "DICOMDIR."),
    ],
)
def test_names_are_found_in_every_spelling_of_iso_9660(tmp_path: Path, directory: str, name: str, index: str) -> None:
    """Lower case, version numbers and the dot of an empty extension are differences of the driver."""
    write_instance(tmp_path / directory, 1)
    (tmp_path / directory / "IM001000001").rename(tmp_path / directory / name)
    write_dicomdir(tmp_path / index, referenced((1,), "DICOM"))
    found = scanned(source(tmp_path))
    assert outcomes(tmp_path, found) == {index: "", f"{directory}/{name}": ""}


@pytest.mark.parametrize(
    "file_id", [("..", "secret"), ("DICOM", "..", "..", "secret"), ("/etc", "passwd"), (".",), ("a/b",), ("a", "", "b")]
)
def test_references_out_of_the_directory_are_refused(tmp_path: Path, file_id: tuple[str, ...]) -> None:
    """A record that leads outside is a failure with its File ID; the file that it leads to is not sent."""
    (tmp_path / "secret").write_bytes(b"x")
    disc = tmp_path / "disc"
    disc.mkdir()
    write_dicomdir(disc / "DICOMDIR", [(file_id, "2.25.1")])
    found = scanned(source(disc))
    failures = [one for one in found.values() if isinstance(one, FileResult)]
    assert [one.outcome for one in failures] == [Outcome.UNREADABLE]
    assert failures[0].reason.startswith("DICOMDIR references a file outside of its directory: ")
    assert len(found) == 2


def test_a_reference_behind_a_link_that_is_not_followed_is_missing(disc: Path, tmp_path: Path) -> None:
    """The walk does not get there, so the reference has a failure; with --follow-links the file is found."""
    write_instance(tmp_path / "elsewhere", 7)
    (disc / "LINK").symlink_to(tmp_path / "elsewhere")
    write_dicomdir(disc / "DICOMDIR", referenced((7,), "LINK"))
    found = outcomes(disc, scanned(source(disc)))
    assert found["LINK/IM001000007"].startswith("unreadable: referenced by DICOMDIR")
    assert outcomes(disc, scanned(source(disc, follow_links=True)))["LINK/IM001000007"] == ""


def test_deleted_records_reference_nothing(disc: Path) -> None:
    """A record whose in-use flag is 0 was deleted: its file is not referenced, and not missing."""
    write_dicomdir(disc / "DICOMDIR", referenced((1, 9), "DICOM"), in_use=0)
    found = outcomes(disc, scanned(source(disc)))
    assert found.pop("DICOMDIR") == ""
    assert len(found) == 3
    assert all(reason.startswith("skipped: not referenced") for reason in found.values())


def test_a_directory_without_a_dicomdir_is_a_failure_and_is_not_walked(tmp_path: Path, disc: Path) -> None:
    """The other sources are scanned nevertheless."""
    write_instance(tmp_path / "tree", 5)
    found = scanned(source(tmp_path / "tree", disc))
    assert _reason(found[str(tmp_path / "tree")]).startswith("unreadable: no DICOMDIR in this directory")
    assert str(tmp_path / "tree" / "IM001000005") not in found
    assert _reason(found[str(disc / "DICOM" / "IM001000001")]) == ""


def test_a_dicomdir_that_is_cut_off_anywhere_is_damaged_and_nothing_is_sent(disc: Path) -> None:
    """However much of it is left, the tree is not sent in silence, and no reference is lost."""
    whole = (disc / "DICOMDIR").read_bytes()
    for length in range(0, len(whole), 5):
        (disc / "DICOMDIR").write_bytes(whole[:length])
        found = scanned(source(disc))
        assert list(found) == [str(disc / "DICOMDIR")], length
        assert _reason(found[str(disc / "DICOMDIR")]).startswith("unreadable: DICOMDIR ")


def test_another_file_of_that_name_is_no_dicomdir(disc: Path) -> None:
    """An image, or text, under the name of a DICOMDIR is a failure."""
    for content in ((disc / "DICOM" / "IM001000001").read_bytes(), b"see the other disc\n"):
        (disc / "DICOMDIR").write_bytes(content)
        (only,) = scanned(source(disc)).values()
        assert isinstance(only, FileResult)
        assert only.outcome is Outcome.UNREADABLE


def test_a_dicomdir_beyond_the_limit_is_not_read(disc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: pydicom needs many times its size."""
    monkeypatch.setattr(dicomdir, "MOST_BYTES", 100)
    (only,) = scanned(source(disc)).values()
    assert "which no DICOMDIR is" in _reason(only)


def test_a_file_that_vanishes_while_the_disc_is_walked_is_missing(disc: Path) -> None:
    """It was there when the DICOMDIR was read; no reference is lost in silence."""
    files = source(disc)
    walk = files.scan()
    names = iter(lambda: walk.run_steps(Worker()), [])
    original = dicomdir.FileSets._missing

    def remove_then(self: dicomdir.FileSets, *arguments: object) -> object:
        yield from original(self, *arguments)  # type: ignore[arg-type]
        (disc / "DICOM" / "IM001000002").unlink()

    dicomdir.FileSets._missing = remove_then  # type: ignore[method-assign, assignment]
    try:
        found = {f.candidate.location: f for several in names for f in several if isinstance(f, FileResult)}
    finally:
        dicomdir.FileSets._missing = original  # type: ignore[method-assign]
    assert found[str(disc / "DICOM" / "IM001000002")].reason.endswith(", not there")


def test_a_file_with_another_uid_than_its_record_is_a_failure(disc: Path) -> None:
    """The disc does not have the instance that it announces; the reason names both UIDs."""
    shutil.copy(disc / "DICOM" / "IM001000003", disc / "DICOM" / "IM001000002")
    files = source(disc)
    found = scanned(files)
    right, wrong = (found[str(disc / "DICOM" / f"IM00100000{n}")] for n in (1, 2))
    assert isinstance(right, Candidate)
    assert instance_in(files, right).header == header(1)
    assert isinstance(wrong, Candidate)
    with pytest.raises(DamagedHead, match=r"expected 2\.25\.1\.1\.2, found 2\.25\.1\.1\.3"):
        files.read_head(wrong)


def test_the_file_set_of_another_writer(tmp_path: Path) -> None:
    """A file set that pydicom has written is found whole, with its hierarchy of records."""
    file_set = FileSet()
    for number in range(1, 4):
        instance = pydicom.dcmread(write_instance(tmp_path / "in", number).candidate.location)
        instance.PatientID, instance.PatientName, instance.StudyID = "1", "A", "1"
        instance.StudyDate, instance.StudyTime, instance.AccessionNumber = "20200101", "120000", "1"
        instance.SeriesNumber, instance.InstanceNumber, instance.Modality = 1, number, "OT"
        file_set.add(instance)
    file_set.write(tmp_path / "out")
    file_set._stage["t"].cleanup()  # pydicom leaves it to the garbage collector, with a warning
    files = source(tmp_path / "out")
    found = scanned(files)
    assert len(found) == 4
    instances = [one for path, one in found.items() if isinstance(one, Candidate) and not path.endswith("DICOMDIR")]
    assert {instance_in(files, one).header.sop_instance_uid for one in instances} == {
        header(n).sop_instance_uid for n in (1, 2, 3)
    }


def test_the_root_of_a_source() -> None:
    """A DICOMDIR stands for its directory."""
    assert root_of("/cd/DICOMDIR") == "/cd"
    assert root_of("/cd/dicomdir;1") == "/cd"
    assert root_of("/cd") == "/cd"
