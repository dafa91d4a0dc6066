"""The patches of a head, from the bytes of an instance at any source."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import dataclass, replace

from bulkstow.errors import DamagedHead
from bulkstow.model import Header
from bulkstow.ports import FileRange, Segment, SegmentReader
from bulkstow.source.splicing import spliced
from bulkstow.source.windows import ByteReader, FileWindow, PartBytes
from bulkstow.wire.edit_levels import Patch
from bulkstow.wire.edit_rules import Edits
from bulkstow.wire.edits import DataSetEdits, edit_data_set, read_file_meta
from bulkstow.wire.elements import EXPLICIT
from bulkstow.wire.part10 import (
    DEFLATED,
    LONG_VRS,
    META_AT,
    SERIES,
    SHORT_VRS,
    SOP_INSTANCE,
    STUDY,
    has_magic,
)
from bulkstow.wire.steps import CUT_OFF, MemoryWindow, Problem, run
from bulkstow.wire.study_attributes import MODALITY, STUDY_DATE, study_attribute
from bulkstow.wire.tolerant_reader import announced_syntax

_HEAD_BYTES = 800
_PATCH_BYTES = 150
"""Memory of the edits of a head and of a patch, without the bytes of the patch, as `tracemalloc` counts it."""

_MOST_IN_MEMORY_BYTES = 64 * 2**20
"""The longest deflated data set that is edited, deflated or inflated, and the longest head of a source that can only be
read from its beginning."""

_HEAD_READ_BYTES = 2**14
"""The first read. 158 of 165 heads among pydicom's test files are shorter; it takes 0.6 µs more than 1 KiB."""

_SEQUENTIAL_BYTES = 64 * 2**10
"""The bytes that are read at once from such a source."""

_UNKNOWN_BYTES = 2**62
"""The size of content of which only the end tells its size."""


@dataclass(frozen=True, slots=True)
class EditedHead:
    """The patches of an instance, and the new values of its attributes by tag."""

    patches: tuple[Patch, ...]
    header_values: tuple[tuple[int, str], ...]

    def header(self, header: Header) -> Header:
        """Return the head after the edits."""
        values = dict(self.header_values)
        modality, study_date = (
            study_attribute(tag, values[tag].encode(errors="replace")) if tag in values else before
            for tag, before in ((MODALITY, header.modality), (STUDY_DATE, header.study_date))
        )
        return replace(
            header,
            study_uid=values.get(STUDY, header.study_uid),
            series_uid=values.get(SERIES, header.series_uid),
            sop_instance_uid=values.get(SOP_INSTANCE, header.sop_instance_uid),
            modality=modality,
            study_date=study_date,
        )

    @property
    def memory_bytes(self) -> int:
        """The memory that it takes."""
        return _HEAD_BYTES + sum(_PATCH_BYTES + len(patch.data) for patch in self.patches)


def edit_head(edits: Edits, data: ByteReader) -> EditedHead:
    """Return the edits of an instance. Raises Problem, DamagedHead."""
    window = _HeadWindow(data)
    meta = run(read_file_meta(META_AT if has_magic(window.head) else 0, data.size_bytes), window)
    at = meta.level.end_at
    if meta.transfer_syntax_uid in DEFLATED and data.read(6, at)[4:] not in SHORT_VRS | LONG_VRS:
        found, patches = _edit_deflated(edits, data, at)
    else:
        steps = edit_data_set(edits, at, data.size_bytes, announced_syntax(meta.transfer_syntax_uid))
        found = run(steps, window)
        patches = found.patches
    if SOP_INSTANCE in found.values:
        patches = (*run(meta.edit(found.values[SOP_INSTANCE]), window), *patches)
    wanted = (STUDY, SERIES, SOP_INSTANCE, MODALITY, STUDY_DATE)
    return EditedHead(patches, tuple((tag, found.values[tag]) for tag in wanted if tag in found.values))


class _HeadWindow:
    """The bytes of an instance for the steps of a reader; the first _HEAD_READ_BYTES are read at once."""

    def __init__(self, data: ByteReader) -> None:
        self.head = data.read(_HEAD_READ_BYTES, 0)
        self._rest = FileWindow(data, data.size_bytes)

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes (see `steps.Window`)."""
        return self.head[at:] if at + size_bytes <= len(self.head) else self._rest.read(at, size_bytes)


def _edit_deflated(edits: Edits, data: ByteReader, at: int) -> tuple[DataSetEdits, tuple[Patch, ...]]:
    """Return the edits of a data set that is deflated as a whole, and one patch that replaces all of it.

    Raises Problem.
    """
    deflated = data.read(_MOST_IN_MEMORY_BYTES + 1, at)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        before = inflate.decompress(deflated, _MOST_IN_MEMORY_BYTES + 1)
    except zlib.error:
        raise Problem("its data set cannot be inflated") from None
    if len(deflated) > _MOST_IN_MEMORY_BYTES or len(before) > _MOST_IN_MEMORY_BYTES:
        raise Problem("its deflated data set has more than 64 MiB")
    if not inflate.eof:
        raise Problem(CUT_OFF)
    found = run(edit_data_set(edits, 0, len(before), EXPLICIT), MemoryWindow(before))
    if not found.patches:
        return found, ()
    compress = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    pieces = [
        compress.compress(piece) for piece in spliced(_memory(before), found.patches) if isinstance(piece, memoryview)
    ]
    after = b"".join((*pieces, compress.flush()))
    return found, (Patch(at, len(deflated), after + bytes(len(after) % 2)),)


def _memory(data: bytes) -> Generator[Segment]:
    yield memoryview(data)


class _Sequential:
    """Content that can only be read from its beginning, as it is inflated; bytes that were read stay in memory."""

    descriptor = -1
    size_bytes = _UNKNOWN_BYTES

    def __init__(self, drawn: Generator[Segment]) -> None:
        self._reader = SegmentReader(drawn)
        self._data = bytearray()
        self._has_ended = False

    def read(self, size_bytes: int, at: int) -> bytes:
        """Read bytes (see `ByteReader`). Raises DamagedHead for more than _MOST_IN_MEMORY_BYTES, InstanceChanged."""
        while (missing_bytes := at + size_bytes - len(self._data)) > 0 and not self._has_ended:
            if len(self._data) > _MOST_IN_MEMORY_BYTES:
                raise DamagedHead("cannot be edited: its head has more than 64 MiB")
            block = bytearray(min(max(missing_bytes, _SEQUENTIAL_BYTES), _MOST_IN_MEMORY_BYTES))
            count = self._reader.read_into(memoryview(block))
            self._has_ended = count < len(block)
            self._data += memoryview(block)[:count]
        return bytes(memoryview(self._data)[at : at + size_bytes])


def readable(drawn: Generator[Segment], content_bytes: int) -> ByteReader:
    """Return segments as bytes at any offset; of a single range of a file only requested bytes are read."""
    first = next(drawn, None)
    if isinstance(first, FileRange) and first.size_bytes == content_bytes:
        return PartBytes(first.descriptor, first.offset, first.size_bytes)

    def again() -> Generator[Segment]:
        if first is not None:
            yield first
            yield from drawn

    return _Sequential(again())
