import tracemalloc
import zlib
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.server.heads import MOST_INFLATED_BYTES, quick_header, slow_header
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


def test_both_readers_find_the_same() -> None:
    """The tolerant reader agrees with the quick one."""
    assert quick_header(part10(), whole=True) == slow_header(part10()) == HEADER


@pytest.mark.parametrize("transfer_syntax_uid", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_the_tolerant_reader_takes_what_the_quick_one_declines(transfer_syntax_uid: str) -> None:
    """Big endian and deflated files are rare, and are read nevertheless."""
    file = written_by_pydicom(transfer_syntax_uid)
    assert quick_header(file, whole=True) is None
    assert slow_header(file) == Header(STUDY, SERIES, INSTANCE, CT, transfer_syntax_uid)


def test_a_head_that_is_cut_off_takes_more() -> None:
    """The quick reader asks for more bytes."""
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
    """Broken bytes are a reason to refuse an instance, never a fault of the origin."""
    with suppress(HeadError):
        slow_header(head)


def test_an_inflated_head_is_bounded() -> None:
    """A part that inflates to a thousand times its size takes no more memory than a few times the bound."""
    file = written_by_pydicom("1.2.840.10008.1.2.1.99")
    meta_end = file.index(b"1.2.840.10008.1.2.1.99") + 22
    endless = zlib.compressobj(wbits=-15)
    element = b"\x08\0\x05\0UT\0\0\0\0\0\x40"
    head = file[:meta_end] + endless.compress(element + bytes(2**26)) + endless.flush()
    tracemalloc.start()
    try:
        with pytest.raises(HeadError):
            slow_header(head)
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST_INFLATED_BYTES
    finally:
        tracemalloc.stop()
