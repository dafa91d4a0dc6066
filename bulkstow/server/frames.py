"""Single frames of an instance, in the encoding in which they are stored.

Finds a frame in its file, and the media type of its encoding (PS3.18 §8.7.3.3). Reads files with pydicom, and blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bulkstow.server.message import FilePart, MadePart, Part
from bulkstow.server.metadata import PIXEL_DATA, on_disk, reading

if TYPE_CHECKING:
    from pydicom import Dataset

    from bulkstow.server.metadata import Raw

NATIVE = "application/octet-stream"

_JPEG = "1.2.840.10008.1.2.4."
_ENCODINGS = {
    **dict.fromkeys((f"{_JPEG}{last}" for last in (50, 51, 57, 70)), "image/jpeg"),
    **dict.fromkeys((f"{_JPEG}{last}" for last in (80, 81)), "image/jls"),
    **dict.fromkeys((f"{_JPEG}{last}" for last in (90, 91)), "image/jp2"),
    **dict.fromkeys((f"{_JPEG}{last}" for last in (92, 93)), "image/jpx"),
    **dict.fromkeys((f"{_JPEG}{last}" for last in (100, 101)), "video/mpeg"),
    **dict.fromkeys((f"{_JPEG}{last}" for last in range(102, 109)), "video/mp4"),
    **dict.fromkeys((f"{_JPEG}{last}" for last in range(201, 204)), "image/jphc"),
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media types by transfer syntax (PS3.18 §8.7.3.3); frames in any other syntax are octets."""


def frames(path: Path, numbers: Sequence[int]) -> tuple[str, list[Part]] | None:
    """Return the media type and the frames with these numbers, from 1; None if one of them does not exist.

    Raises HeadError if pydicom cannot read the file, it has no pixels, or its frames do not begin at whole bytes.
    """
    with reading(path) as dataset:
        count = int(dataset.get("NumberOfFrames") or 1)
        raw = next((raw for tag in PIXEL_DATA if (raw := dataset.get_item(tag, keep_deferred=True)) is not None), None)
        if raw is None or not all(1 <= number <= count for number in numbers):
            return None
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated:
            table = [dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
            offsets = (table[0], table[1]) if all(table) else None
            made = [partial(_encapsulated, path, raw, number - 1, count, offsets) for number in numbers]
            return _ENCODINGS.get(str(syntax), NATIVE), [MadePart(make) for make in made]
        size_bytes = _frame_bytes(dataset)
        return NATIVE, [_native(path, raw, (number - 1) * size_bytes, size_bytes) for number in numbers]


def _encapsulated(path: Path, raw: Raw, index: int, count: int, offsets: tuple[bytes, bytes] | None) -> bytes:
    from pydicom.encaps import get_frame

    if isinstance(raw.value, bytes):
        return get_frame(raw.value, index, number_of_frames=count, extended_offsets=offsets)
    with path.open("rb") as file:
        file.seek((on_disk(raw) or (0, 0))[0])
        return get_frame(file, index, number_of_frames=count, extended_offsets=offsets)


def _native(path: Path, raw: Raw, from_bytes: int, size_bytes: int) -> Part:
    if place := on_disk(raw):
        return FilePart(path, size_bytes, place[0] + from_bytes)
    frame = raw.value[from_bytes : from_bytes + size_bytes] if isinstance(raw.value, bytes) else b""
    return MadePart(lambda: frame)


def _frame_bytes(dataset: Dataset) -> int:
    bits = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1) * dataset.BitsAllocated
    if bits % 8:
        raise ValueError("its frames do not begin at whole bytes")
    return int(bits // 8)
