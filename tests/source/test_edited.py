"""Edited instances of files, extents and other sources; pydicom finds the changes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import data_store
import pydicom
import pytest

from bulkstow.errors import DamagedHead, HeadError, InstanceChanged
from bulkstow.model import Candidate, Coding, Container, Extent, Header, Instance
from bulkstow.ports import FileRange, Found, Segment, SegmentReader, Source
from bulkstow.source.edited import EditedSource
from bulkstow.source.files import FileSource
from bulkstow.wire.edit_rules import Edits, Extend, Regenerate, Remove, Rules, SetTo, identifies_instance
from bulkstow.wire.synthetic import part10
from tests.archives import candidate, header, write_instance

KEY = Regenerate(b"0123456789abcdef")
INSTITUTION, PATIENT_ID, BIRTH_DATE, REFERENCES, COMMENTS = (
    0x0008_0080,
    0x0010_0020,
    0x0010_0030,
    0x0008_1140,
    0x0020_4000,
)
EDITS = Edits(
    Rules(
        {
            INSTITUTION: SetTo("Clinic North"),
            PATIENT_ID: Extend("N", ""),
            BIRTH_DATE: Remove(),
            0x0028_0010: SetTo((17,)),
            COMMENTS: SetTo("edited"),
        }
    ),
    KEY,
)
FILES = sorted(
    path
    for package in (pydicom, data_store)
    for path in (Path(str(package.__file__)).parent / "data").rglob("*.dcm")
    if path.stat().st_size < 2**20
)


def whole(source: Source, instance: Instance) -> bytes:
    """Return all bytes of an instance."""
    with closing(source.open(instance)) as drawn:
        data = bytearray(instance.size_bytes + 1)
        return bytes(data[: SegmentReader(drawn).read_into(memoryview(data))])


def edited(path: Path, edits: Edits = EDITS) -> tuple[Instance, bytes] | None:
    """Return a file after the edits; None if it is no instance without them."""
    source = FileSource(accept_missing_preamble=True)
    try:
        source.read_head(candidate(path))
    except HeadError:
        return None
    found = EditedSource(source, edits)
    instance = found.read_head(candidate(path))
    assert isinstance(instance, Instance)
    data = whole(found, instance)
    assert len(data) == instance.size_bytes
    return instance, data


def edit_by_pydicom(data_set: pydicom.Dataset) -> None:
    """Make the same edits."""
    _map_uids(data_set)
    data_set.InstitutionName, data_set.Rows, data_set.ImageComments = "Clinic North", 17, "edited"
    if data_set.get("PatientID"):
        data_set.PatientID = f"N{data_set.PatientID}"
    if "PatientBirthDate" in data_set:
        del data_set.PatientBirthDate


def _map_uids(data_set: pydicom.Dataset) -> None:
    for element in data_set:
        if element.VR == "SQ":
            for item in element.value:
                _map_uids(item)
        elif element.VR == "UI" and element.value and identifies_instance(int(element.tag)):
            uids = element.value if element.VM > 1 else [element.value]
            new = [EDITS.new_uid(str(uid)) for uid in uids]
            element.value = new if len(new) > 1 else new[0]


def without_group_lengths(data_set: pydicom.Dataset) -> pydicom.Dataset:
    """Remove the group lengths, which pydicom does not keep true."""
    for tag in [tag for tag in data_set if tag.tag.element == 0]:
        del data_set[tag.tag]
    return data_set


NOT_READ_BY_PYDICOM = frozenset({"emri_small_jpeg_2k_lossless_too_short.dcm"})
"""pydicom finds no element in it."""

CUT_OFF = frozenset({"rtplan_truncated.dcm"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_pydicom_reads_what_it_would_have_edited(path: Path) -> None:
    """Of every test file of pydicom, in all transfer syntaxes, the edits and nothing else is different."""
    if path.name in CUT_OFF:
        with pytest.raises(DamagedHead, match="cannot be edited: cut off"):
            edited(path)
        return
    result = edited(path)
    if result is None or path.name in NOT_READ_BY_PYDICOM:
        return
    instance, data = result
    before, after = pydicom.dcmread(path, force=True), pydicom.dcmread(io.BytesIO(data), force=True)
    edit_by_pydicom(before)
    assert without_group_lengths(after) == without_group_lengths(before)
    assert instance.header.sop_instance_uid == after.SOPInstanceUID
    found = FileSource(accept_missing_preamble=True).read_head(candidate(path))
    assert isinstance(found, Instance)
    assert instance.original == found.header
    if "MediaStorageSOPInstanceUID" in after.file_meta:
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        length_bytes = after.file_meta.get("FileMetaInformationGroupLength")
        assert length_bytes is None or data[132 + 12 + length_bytes :][:1] != b"\x02"
    if "PixelData" in before and not after.file_meta.get("TransferSyntaxUID", "").endswith(".1.99"):
        assert data.endswith(path.read_bytes()[-len(before.PixelData) // 2 :])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_an_edit_that_changes_nothing_leaves_every_byte(path: Path) -> None:
    """A file without the attribute is not edited: its bytes, its size and its header are those of the file."""
    if path.name in CUT_OFF | NOT_READ_BY_PYDICOM:
        return
    result = edited(path, Edits(Rules({0x0018_9073: Remove()})))
    if result is None or "AcquisitionDuration" in pydicom.dcmread(path, force=True):
        return
    instance, data = result
    assert data == path.read_bytes()
    assert (instance.sent_bytes, instance.original) == (None, None)


@pytest.mark.parametrize("name", ["693_UNCI.dcm", "color-pl.dcm", "ExplVR_BigEnd.dcm"])
def test_group_lengths_are_those_of_the_groups(name: str) -> None:
    """Each of an edited group is the number of bytes up to the next group, also if it was wrong before."""
    (path,) = [path for path in FILES if path.name == name]
    result = edited(path)
    assert result is not None
    data_set = pydicom.dcmread(io.BytesIO(result[1]))
    value_at = {tag: data_set[tag].file_tell or 0 for tag in sorted(data_set.keys())}
    long_vrs = ("OB", "OW", "SQ", "UN", "UT")
    begins_at = {tag: at - (12 if data_set[tag].VR in long_vrs else 8) for tag, at in value_at.items()}
    compared = 0
    for tag, at in value_at.items():
        following = [begin for other, begin in begins_at.items() if other.group > tag.group]
        if tag.element == 0 and tag.group in (0x0008, 0x0010, 0x0020):
            assert data_set[tag].value == min(following) - (at + 4), tag
            compared += 1
    assert compared >= 2


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """Give a file."""
    return write_instance(tmp_path, 1)


def test_pixel_data_are_sent_from_the_file(instance: Instance) -> None:
    """The head is memory, everything behind the last edit a range of the file, which sendfile takes."""
    source = EditedSource(FileSource(), Edits(uids=KEY))
    found = source.read_head(instance.candidate)
    assert isinstance(found, Instance)
    with closing(source.open(found)) as drawn:
        kinds = [isinstance(segment, FileRange) for segment in drawn]
    assert kinds == [False, True]


def test_the_head_has_both_uids(instance: Instance) -> None:
    """The header is that of the edited instance, the original one that of the file; the size is the sent one."""
    found = EditedSource(FileSource(), Edits(uids=KEY)).read_head(instance.candidate)
    assert isinstance(found, Instance)
    before = header(1)
    assert found.original == before
    assert found.header == Header(
        KEY.new_uid(before.study_uid),
        KEY.new_uid(before.series_uid),
        KEY.new_uid(before.sop_instance_uid),
        before.sop_class_uid,
        before.transfer_syntax_uid,
    )
    assert found.sent_bytes is not None
    assert found.sent_bytes > found.candidate.size_bytes


def test_modality_and_date_are_those_after_the_edits(instance: Instance) -> None:
    """The ledger gets the same values as the server; a removed date is none."""
    rules = Rules({0x0008_0060: SetTo("MR"), 0x0008_0020: SetTo("20200131")})
    found = EditedSource(FileSource(), Edits(rules)).read_head(instance.candidate)
    assert isinstance(found, Instance)
    assert (found.header.modality, found.header.study_date) == ("MR", "20200131")
    Path(instance.candidate.location).write_bytes(whole(EditedSource(FileSource(), Edits(rules)), found))
    removing = Edits(Rules({0x0008_0060: Remove(), 0x0008_0020: Remove()}))
    again = EditedSource(FileSource(), removing).read_head(candidate(Path(instance.candidate.location)))
    assert isinstance(again, Instance)
    assert (again.header.modality, again.header.study_date) == ("", "")


def test_a_source_that_has_not_read_the_head_gives_the_same_bytes(instance: Instance) -> None:
    """As in a sender process, and for a candidate from the ledger."""
    first = EditedSource(FileSource(), EDITS)
    found = first.read_head(instance.candidate)
    assert isinstance(found, Instance)
    data = whole(first, found)
    assert whole(EditedSource(FileSource(), EDITS), found) == data
    from_ledger = Instance(instance.candidate, found.header, original=found.original, sent_bytes=found.sent_bytes)
    assert whole(EditedSource(FileSource(), EDITS), from_ledger) == data


def test_a_file_that_changes_is_noticed(instance: Instance) -> None:
    """While it is sent, before, and if other rules make another length of it."""
    source = EditedSource(FileSource(), EDITS)
    found = source.read_head(instance.candidate)
    assert isinstance(found, Instance)
    other = EditedSource(FileSource(), Edits(Rules({INSTITUTION: SetTo("x")})))
    with pytest.raises(InstanceChanged, match="edited, it had"):
        whole(other, found)
    assert source.verify(found) == ""
    path = Path(instance.candidate.location)
    path.write_bytes(part10(header(2), rows=17, columns=16, number=2))
    assert "changed while it was sent" in source.verify(found)
    for each in (source, EditedSource(FileSource(), EDITS)):
        with pytest.raises(InstanceChanged, match="changed while it was sent"):
            whole(each, found)


def test_an_instance_that_cannot_be_edited_is_damaged(instance: Instance) -> None:
    """The reason is that of the edit."""
    source = EditedSource(FileSource(), Edits(Rules({0x0020_0010: SetTo("山")})))
    with pytest.raises(DamagedHead, match=r"cannot be edited: \(0020,0010\) StudyID would have a character that the"):
        source.read_head(instance.candidate)


def test_a_deflated_member_of_an_archive_is_edited(instance: Instance, tmp_path: Path) -> None:
    """Its content is inflated from the beginning, once for the head and once for sending."""
    content = Path(instance.candidate.location).read_bytes()
    compress = zlib.compressobj(wbits=-15)
    deflated = compress.compress(content) + compress.flush()
    path = tmp_path / "archive"
    path.write_bytes(b"head" + deflated)
    status = path.stat()
    extent = Extent(
        str(path),
        4,
        len(deflated),
        (status.st_size, status.st_mtime_ns),
        Coding.DEFLATE,
        len(content),
        zlib.crc32(content),
    )
    member = Candidate(f"{path}!/1", len(content), "crc", extent=extent)
    source = EditedSource(FileSource(), EDITS)
    plain = source.read_head(instance.candidate)
    found = source.read_head(member)
    assert isinstance(found, Instance)
    assert isinstance(plain, Instance)
    assert found.sent_bytes == plain.sent_bytes
    assert whole(source, found) == whole(source, plain)


class Remote(Source):
    """One instance in pieces, which is announced before it is read."""

    is_fetched = True

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.released: list[Candidate] = []
        self.opened = 0
        self.member = Candidate("dicomweb:1", 0, "1", announced=header(1))

    def scan(self) -> Iterator[Sequence[Found]]:
        """Yield the instance."""
        yield [self.member]

    def read_head(self, candidate: Candidate) -> Instance | Container:
        """Return the announced instances."""
        return Instance(candidate, header(1))

    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield pieces of one byte, and more."""
        self.opened += 1
        assert instance.header == header(1)
        yield memoryview(self.content)[:1]
        yield memoryview(self.content)[1:]

    def verify(self, instance: Instance) -> str:
        """Return that it has not changed."""
        assert instance.header == header(1)
        return ""

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Note it."""
        self.released += candidates


def test_an_announced_instance_is_not_read_for_its_uids() -> None:
    """A plan reads nothing from another server; content that is compared is asked for by the UIDs at the source."""
    remote = Remote(part10(header(1), rows=16, columns=16, number=1))
    source = EditedSource(remote, Edits(uids=KEY))
    found = remote.member
    planned = source.read_head(found)
    assert isinstance(planned, Instance)
    assert planned.header.sop_instance_uid == KEY.new_uid(header(1).sop_instance_uid)
    assert (planned.original, planned.sent_bytes, remote.opened) == (header(1), None, 0)
    known = replace(planned, candidate=replace(found, size_bytes=len(remote.content)), sent_bytes=None)
    with closing(source.open(known)) as drawn:
        data = b"".join(bytes(segment) for segment in drawn if isinstance(segment, memoryview))
    assert pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID == planned.header.sop_instance_uid
    assert source.verify(known) == ""
    source.release([found])
    assert (remote.released, source.is_fetched) == ([found], True)
