"""Instances for comparisons: one data set, written in many ways."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from bulkstow.blocking import Worker
from bulkstow.model import Header, Instance
from bulkstow.verification.content_bytes import ByteComparison
from bulkstow.verification.content_result import ContentResult
from bulkstow.verification.content_steps import StepwiseComparison
from tests.memory_source import MemorySource

UIDS = Header("2.25.1", "2.25.1.1", "2.25.1.1.1", "1.2.840.10008.5.1.4.1.1.7", "")

Change = Callable[[Dataset], object]


def data_set(*, rows: int = 8, columns: int = 8, bits: int = 16, frames: int = 1) -> Dataset:
    """Return a data set with private and nested attributes, and pixels that do not repeat."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = UIDS.sop_class_uid, UIDS.sop_instance_uid
    ds.StudyDate, ds.Modality = "20260101", "OT"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Nobody", "SYNTHETIC", ""
    ds.SliceThickness, ds.PatientComments = "1.5", "odd"
    block = ds.private_block(0x0011, "BULKSTOW TEST", create=True)
    block.add_new(0x10, "LO", "private")
    block.add_new(0x11, "FD", [1.5, -2.25])
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UIDS.study_uid, UIDS.series_uid
    inner, item = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "T-1", "inner"
    item.ReferencedSOPInstanceUID, item.PurposeOfReferenceCodeSequence = "2.25.9", Sequence([inner])
    ds.ReferencedImageSequence = Sequence([item])
    ds.ProcedureCodeSequence = Sequence([])
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.NumberOfFrames = rows, columns, frames
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation = bits - 1, 0
    size_bytes = rows * columns * frames * bits // 8
    ds.PixelData = random.Random(size_bytes).randbytes(size_bytes)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    return ds


def written(
    ds: Dataset, syntax: str = ExplicitVRLittleEndian, *, preamble: bytes = bytes(128), meta: Change | None = None
) -> bytes:
    """Return a data set as a file in a transfer syntax."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    if meta is not None:
        meta(ds.file_meta)
    ds.preamble = preamble
    file = io.BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def changed(change: Change, **shape: Any) -> Dataset:
    """Return the data set with a change."""
    ds = data_set(**shape)
    change(ds)
    return ds


def source_of(content: bytes) -> tuple[MemorySource, Instance]:
    """Return a source with one instance."""
    source = MemorySource({"ours": content})
    return source, Instance(source.candidate("ours"), UIDS)


def compared(ours: bytes, received: bytes, *, block_bytes: int = 2**20) -> ContentResult:
    """Compare the file of a source with received bytes, in blocks of this size."""
    comparison = ByteComparison(*source_of(ours))
    try:
        blocks = [received[at : at + block_bytes] for at in range(0, len(received), block_bytes)] or [b""]
        for block in blocks[:-1]:
            if (result := comparison.compare([memoryview(block)])) is not None:
                return result
        return finished(comparison.end([memoryview(blocks[-1])]))
    finally:
        comparison.close()


def finished(result: ContentResult | StepwiseComparison) -> ContentResult:
    """Return the result of all steps."""
    if not isinstance(result, StepwiseComparison):
        return result
    found: list[ContentResult] = []
    while not found:
        found = result.run_steps(Worker())
    return found[0]
