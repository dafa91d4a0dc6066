from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.server.heads import quick_header, slow_header
from tests.server.samples import CT, EXPLICIT_LITTLE, INSTANCE, SERIES, STUDY, part10

HEADER = Header(STUDY, SERIES, INSTANCE, CT, EXPLICIT_LITTLE)


def written_by_pydicom(transfer_syntax_uid: str) -> bytes:
    """Return a file in a transfer syntax that is not read quickly."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(CT), UID(INSTANCE)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_both_ways_read_the_same() -> None:
    """What the quick reader takes, pydicom reads alike."""
    assert quick_header(part10(), whole=True) == slow_header(part10()) == HEADER


@pytest.mark.parametrize("transfer_syntax_uid", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_what_the_quick_reader_declines_goes_to_pydicom(transfer_syntax_uid: str) -> None:
    """Big endian and deflated files are rare, and read all the same."""
    file = written_by_pydicom(transfer_syntax_uid)
    assert quick_header(file, whole=True) is None
    assert slow_header(file) == Header(STUDY, SERIES, INSTANCE, CT, transfer_syntax_uid)


def test_a_head_that_is_cut_off_takes_more() -> None:
    """The first bytes of a file may not be enough for either way; the quick one says so."""
    assert quick_header(part10()[:250], whole=False) is None


def test_a_uid_that_is_cut_off_is_not_another_uid() -> None:
    """Wherever the bytes end, a UID is read whole, is absent, or the head cannot be read."""
    file = written_by_pydicom("1.2.840.10008.1.2.2")
    full = {STUDY, SERIES, INSTANCE, CT, ""}
    for end in range(len(file)):
        with suppress(HeadError):
            header = slow_header(file[:end])
            assert {header.study_uid, header.series_uid, header.sop_instance_uid, header.sop_class_uid} <= full


def test_absent_uids_are_empty() -> None:
    """Whether an instance without them is stored is not decided here."""
    assert slow_header(part10("", series="")) == Header(STUDY, "", "", CT, EXPLICIT_LITTLE)


def test_a_dicomdir_is_no_instance() -> None:
    """By its SOP class, not by its name (PS3.10 §8.6)."""
    with pytest.raises(HeadError, match="DICOMDIR"):
        slow_header(part10(media_class="1.2.840.10008.1.3.10"))


@given(st.binary(max_size=300).map((bytes(128) + b"DICM").__add__) | st.binary(max_size=300))
def test_nothing_but_a_head_error_comes_of_any_bytes(head: bytes) -> None:
    """pydicom raises all kinds of things on broken bytes; one kind is left of them."""
    with suppress(HeadError):
        slow_header(head)
