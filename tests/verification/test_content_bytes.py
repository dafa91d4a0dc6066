"""Claims about instances that are compared byte by byte, and about the comparison after a difference."""

from __future__ import annotations

import errno
import tempfile
import tracemalloc
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import Candidate, Cause, Instance, NoResponse
from bulkstow.ports import Segment
from bulkstow.source.files import FileSource
from bulkstow.verification.content_bytes import META_NOTE, ByteComparison
from bulkstow.verification.content_result import Different, Identical, NotCompared, SameDataSet
from bulkstow.verification.content_spools import SPOOL_BYTES
from tests.archives import instance_in
from tests.memory_source import MemorySource
from tests.verification.samples import changed, compared, data_set, finished, source_of, written

OURS = written(data_set(rows=64))
OTHER_META = written(data_set(rows=64), meta=lambda meta: setattr(meta, "ImplementationVersionName", "OF A SERVER"))
PIXELS = Different(("(7FE0,0010) PixelData",))


@given(block_bytes=st.integers(600, 2 * len(OURS)))
def test_the_same_bytes_are_identical(block_bytes: int) -> None:
    """The same bytes are identical, in blocks of any size."""
    assert compared(OURS, OURS, block_bytes=block_bytes) == Identical()


def test_the_preamble_does_not_count() -> None:
    """An instance whose preamble a server has replaced is identical."""
    assert compared(OURS, bytes(range(128)) + OURS[128:]) == Identical()


@given(block_bytes=st.integers(600, 2 * len(OURS)))
def test_other_meta_information_is_the_same_data_set(block_bytes: int) -> None:
    """File meta information of another length does not count, and neither instance is copied."""
    assert compared(OURS, OTHER_META, block_bytes=block_bytes) == SameDataSet(META_NOTE)


@given(
    at=st.integers(OURS.index(b"\xe0\x7f\x10\0OW") + 12, len(OURS) - 1),
    block_bytes=st.integers(600, 2 * len(OURS)),
    received=st.sampled_from([OURS, OTHER_META]),
)
def test_any_other_byte_of_the_pixels_is_found(at: int, block_bytes: int, received: bytes) -> None:
    """One other byte makes the pixel data different, wherever it is, and with other meta information too."""
    at += len(received) - len(OURS)
    received = received[:at] + bytes([received[at] ^ 1]) + received[at + 1 :]
    assert compared(OURS, received, block_bytes=block_bytes) == PIXELS


def test_a_late_difference_of_a_long_instance() -> None:
    """The bytes before the difference are copied from our file, also in a temporary file on disk."""
    ours = written(data_set(rows=SPOOL_BYTES // 512, columns=512))
    received = ours[:-1] + bytes([ours[-1] ^ 1])
    assert len(ours) > 2 * SPOOL_BYTES
    assert compared(ours, received) == PIXELS


CUT = {
    "in its pixels": (OURS[:-20], "pixel data cut off: 20 of 1024 bytes missing"),
    "between two elements": (OURS[: OURS.index(b"\xe0\x7f\x10\0OW")], None),
    "in its head": (OURS[:310], "cut off in (0008,0016): 20 of 26 bytes missing"),
}


@pytest.mark.parametrize(("received", "words"), CUT.values(), ids=CUT.keys())
@pytest.mark.parametrize("block_bytes", [600, 2**20])
def test_a_truncated_copy_is_different(received: bytes, words: str | None, block_bytes: int) -> None:
    """An instance that the server has truncated is different, and the result names the place of its end."""
    result = compared(OURS, received, block_bytes=block_bytes)
    assert isinstance(result, Different)
    what = "(7FE0,0010) PixelData removed" if words is None else f"the server's copy is damaged: {words}"
    assert result.attributes == (what,)


GARBAGE = {"nothing": b"", "less than a preamble": OURS[:100], "text": b"<html>" * 200}


@pytest.mark.parametrize("received", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_malformed_answer(received: bytes) -> None:
    """Bytes that are no DICOM file say nothing about the instance."""
    result = compared(OURS, received)
    assert result == NoResponse(Cause.MALFORMED, body_started=False, detail="the received data is not a DICOM file")


def test_a_file_without_preamble() -> None:
    """A file that was sent without preamble is compared with the file that the server makes of it."""
    assert compared(OURS[OURS.index(b"\x08\0\x16\0UI") :], OURS) == SameDataSet(META_NOTE)


def test_without_preamble_the_first_bytes_count() -> None:
    """In a file without preamble the first 128 bytes are part of the data set."""
    bare = OURS[OURS.index(b"\x08\0\x16\0UI") :]
    other = OURS.replace(b"\x08\0\x20\0DA\x08\x0020260101", b"\x08\0\x20\0DA\x08\x0020260102")
    assert other != OURS
    assert compared(bare, other) == Different(("(0008,0020) StudyDate",))


class ChangingSource(MemorySource):
    """A source with an instance that changes while it is read: first the content, then the version."""

    def open(self, instance: Instance) -> Generator[memoryview]:
        """Yield the content in pieces, and change it after the first one."""
        pieces = super().open(instance)
        yield next(pieces)
        self.versions["ours"] = "2"
        yield from super().open(instance)


def test_a_changed_file_is_not_compared() -> None:
    """A file that has changed since the ledger's entry is neither equal nor different."""
    source, instance = source_of(OURS)
    source.versions["ours"] = "2"
    result = ByteComparison(source, instance).end([memoryview(OURS)])
    assert result == NotCompared("version '1', now '2'")


def test_a_file_that_changes_meanwhile_is_not_compared() -> None:
    """A file that changes while it is compared is neither equal nor different."""
    source, instance = source_of(OURS)
    result = ByteComparison(ChangingSource(source.contents), instance).end([memoryview(OURS)])
    assert isinstance(result, NotCompared)


class BrokenSource(MemorySource):
    """A source that cannot be read."""

    def open(self, instance: Instance) -> Generator[Segment]:  # type: ignore[override]
        """Raise OSError."""
        yield from ()
        raise OSError(errno.EIO, "Input/output error")


def test_an_unreadable_file_is_not_compared() -> None:
    """An error of the storage is reported, and is no difference."""
    source, instance = source_of(OURS)
    comparison = ByteComparison(BrokenSource(source.contents), instance)
    assert comparison.compare([memoryview(OURS)]) == NotCompared("cannot be read: Input/output error")


def test_no_space_for_the_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is reported with the directory of the temporary file."""

    def full(at: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bulkstow.verification.content_bytes.spool", full)
    result = compared(OURS, written(changed(lambda ds: setattr(ds, "PatientID", "OTHER"), rows=64)))
    assert result == NotCompared(f"no temporary file in {tempfile.gettempdir()}: No space left on device")


def test_a_comparison_that_is_left_closes_its_files() -> None:
    """Closing in the middle frees the temporary file."""
    source, instance = source_of(OURS)
    comparison = ByteComparison(source, instance)
    assert comparison.compare([memoryview(OURS[:-1] + b"x")]) is None
    comparison.close()
    with pytest.raises(ValueError, match="closed file"):
        finished(comparison.end([memoryview(b"x")]))


@pytest.mark.parametrize("is_equal", [True, False])
def test_memory_does_not_grow_with_the_instance(tmp_path: Path, is_equal: bool) -> None:
    """Neither an equal nor a different instance of 32 MiB is in memory as a whole."""
    path = tmp_path / "large.dcm"
    path.write_bytes(written(data_set(rows=2**15, columns=512)))
    status = path.stat()
    source = FileSource()
    instance = instance_in(source, Candidate(str(path), status.st_size, status.st_mtime_ns))
    comparison = ByteComparison(source, instance)
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            for at in range(0, status.st_size, 2**20):
                block = bytearray(file.read(2**20))
                if not is_equal and at + 2**20 >= status.st_size:
                    block[-1] ^= 1
                assert comparison.compare([memoryview(block)]) is None
        result = finished(comparison.end([]))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        comparison.close()
    assert result == (Identical() if is_equal else PIXELS)
    assert peak_bytes < 2 * SPOOL_BYTES + 4 * 2**20
