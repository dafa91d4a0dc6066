"""Compares two instances as data sets: attribute by attribute, independently of their encodings.

Explicit or implicit VR, byte order, lengths of sequences, deflation, group lengths and padding are encoding, as are the
file meta information and the offsets of compressed frames. Everything else is content, also attributes that a server
has added. Values are compared as bytes: none is decoded or printed. Only the positions of one level's elements are in
memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import IO

from bulkstow.model import Cause, NoResponse
from bulkstow.verification.content_names import list_attributes, syntax_name
from bulkstow.verification.content_pixels import compare_frames
from bulkstow.verification.content_result import Different, NotCompared, SameDataSet
from bulkstow.verification.content_spools import FileWindow, NotInflated, inflate
from bulkstow.verification.content_steps import Steps
from bulkstow.verification.content_values import SpanReader, same_values
from bulkstow.wire.attributes import dictionary_vr, name_of
from bulkstow.wire.data_set import ElementList, Item, read_elements, read_items
from bulkstow.wire.data_set_start import DataSetStart, find_data_set
from bulkstow.wire.elements import Element, ElementReader, Syntax
from bulkstow.wire.part10 import ITEM_END, SEQUENCE_END, SOP_INSTANCE, UNDEFINED
from bulkstow.wire.steps import Problem, run

HEAD_BYTES = 2**20
"""The bytes in which a data set begins: file meta information has 200 to 400 bytes, its private part may be longer."""

PIXEL_DATA = 0x7FE0_0010

_ENCODING = frozenset({0x7FE0_0001, 0x7FE0_0002, 0xFFFC_FFFC, ITEM_END, SEQUENCE_END})
"""Extended offset tables of compressed frames, trailing padding (PS3.10 §7.2), and delimiters that end nothing."""

_PLANAR_CONFIGURATION = 0x0028_0006
_COLOUR_ENCODING = frozenset({0x0028_0004, _PLANAR_CONFIGURATION})
"""Photometric interpretation and planar configuration: of colour images they change with the compression."""


def compare_data_sets(ours: IO[bytes], received: IO[bytes]) -> Steps:
    """Compare two whole files. Raises OSError if a temporary file cannot be written."""
    mine, theirs = _start_of(ours), _start_of(received)
    if theirs is None or not theirs.is_file:
        return NoResponse(Cause.MALFORMED, body_started=False, detail="the received data is not a DICOM file")
    if mine is None:
        return NotCompared("its data set cannot be read")
    our_file, their_file = ours, received
    try:
        our_file, mine = yield from inflate(ours, mine)
        their_file, theirs = yield from inflate(received, theirs)
        return (yield from _Comparison(_Side(our_file, mine), _Side(their_file, theirs)).run())
    except NotInflated as error:
        return NotCompared(str(error))
    except Problem as problem:
        return NotCompared(f"a sequence cannot be read: {problem}")
    finally:
        our_file.close()
        their_file.close()


def _start_of(file: IO[bytes]) -> DataSetStart | None:
    file.seek(0)
    return find_data_set(file.read(HEAD_BYTES))


class _Side:
    """One of the two instances."""

    def __init__(self, file: IO[bytes], start: DataSetStart) -> None:
        self.file = file
        self.transfer_syntax_uid = start.transfer_syntax_uid
        self._start = start
        self._window = FileWindow(file)
        self._reader = ElementReader(self._window.size_bytes, is_limited=False)

    def data_set(self) -> ElementList:
        """Return the elements of the data set itself."""
        return self._level(self._start.offset, None, self._start.syntax)

    def item(self, item: Item) -> ElementList:
        """Return the elements of an item. Raises Problem if it cannot be read to its end."""
        level = self._level(item.value_at, item.end_at, item.syntax)
        if level.problem:
            raise Problem(level.problem)
        return level

    def items(self, sequence: Element, syntax: Syntax) -> list[Item]:
        """Return the items of a sequence, or the fragments of pixel data. Raises Problem."""
        return run(read_items(self._reader, sequence, syntax), self._window)

    def value(self, element: Element, syntax: Syntax) -> SpanReader:
        """Return an element's value; of encapsulated pixel data the fragments without the offset table."""
        if element.length_bytes != UNDEFINED:
            return SpanReader(self.file, [(element.value_at, element.length_bytes)])
        fragments = self.items(element, syntax)[1:]
        return SpanReader(self.file, [(each.value_at, each.end_at - each.value_at) for each in fragments])

    def _level(self, at: int, end_at: int | None, syntax: Syntax) -> ElementList:
        found = run(read_elements(self._reader, at, end_at, syntax), self._window)
        content = {tag: each for tag, each in found.elements.items() if tag & 0xFFFF and tag not in _ENCODING}
        return replace(found, elements=content)


class _Comparison:
    """The comparison of two data sets."""

    def __init__(self, ours: _Side, theirs: _Side) -> None:
        self._ours = ours
        self._theirs = theirs
        self._different: list[str] = []
        """The attributes that differ, in the order of their tags."""

    def run(self) -> Steps:
        """Compare everything. Raises Problem if a sequence cannot be read."""
        mine, theirs = self._ours.data_set(), self._theirs.data_set()
        yield from self._compare(mine, theirs, {SOP_INSTANCE} & mine.elements.keys() & theirs.elements.keys())
        if self._different:  # another instance: its other attributes say nothing
            return Different(tuple(self._different))
        tags = mine.elements.keys() | theirs.elements.keys()
        for side in (mine, theirs):
            if side.problem:
                tags = {tag for tag in tags if tag <= max(side.elements, default=0)}
        pixels: bool | NotCompared = True
        if self._is_transcoded(mine, theirs):
            pixels = yield from self._compare_frames()
            tags -= {PIXEL_DATA} | (_COLOUR_ENCODING if pixels is True and _PLANAR_CONFIGURATION in tags else set())
        yield from self._compare(mine, theirs, tags)
        if pixels is False:
            self._different.append(name_of(PIXEL_DATA))
        if theirs.problem and not mine.problem:
            self._different.append(f"the server's copy is damaged: {theirs.problem}")
        if self._different:
            remark = [pixels.reason] if isinstance(pixels, NotCompared) else []
            return Different(list_attributes([*self._different, *remark]))
        if mine.problem:
            return NotCompared(f"its data set cannot be read to its end: {mine.problem}")
        if isinstance(pixels, NotCompared):
            return pixels
        return SameDataSet(self._note())

    def _compare(self, mine: ElementList, theirs: ElementList, tags: Iterable[int], path: str = "") -> Generator[None]:
        """Compare the elements with these tags, and note those that differ."""
        for tag in sorted(tags):
            ours, other = mine.elements.get(tag), theirs.elements.get(tag)
            if ours is None or other is None:
                self._different.append(f"{path}{name_of(tag)} {'added' if ours is None else 'removed'}")
            elif _is_sequence(ours, other):
                yield from self._compare_items(
                    self._ours.items(ours, mine.syntax), self._theirs.items(other, theirs.syntax), path + name_of(tag)
                )
            else:
                is_swapped = mine.syntax.is_big != theirs.syntax.is_big
                values = self._ours.value(ours, mine.syntax), self._theirs.value(other, theirs.syntax)
                if not (yield from same_values(*values, _vr_of(ours, other), is_swapped=is_swapped)):
                    self._different.append(path + name_of(tag))
            yield

    def _compare_items(self, ours: Sequence[Item], theirs: Sequence[Item], name: str) -> Generator[None]:
        if len(ours) != len(theirs):
            self._different.append(name)
            return
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True), start=1):
            mine, their_item = self._ours.item(one), self._theirs.item(other)
            tags = mine.elements.keys() | their_item.elements.keys()
            yield from self._compare(mine, their_item, tags, f"{name}[{number}] > ")

    def _is_transcoded(self, mine: ElementList, theirs: ElementList) -> bool:
        """Return whether the pixel data are compressed in another way."""
        both = mine.elements.get(PIXEL_DATA), theirs.elements.get(PIXEL_DATA)
        is_compressed = any(each is not None and each.length_bytes == UNDEFINED for each in both)
        is_same_syntax = self._ours.transfer_syntax_uid == self._theirs.transfer_syntax_uid
        return None not in both and is_compressed and not is_same_syntax

    def _compare_frames(self) -> Generator[None, None, bool | NotCompared]:
        ours, theirs = self._ours, self._theirs
        return (yield from compare_frames(ours.file, ours.transfer_syntax_uid, theirs.file, theirs.transfer_syntax_uid))

    def _note(self) -> str:
        ours, theirs = self._ours.transfer_syntax_uid, self._theirs.transfer_syntax_uid
        return "encoding" if ours == theirs else f"{syntax_name(theirs)} instead of {syntax_name(ours)}"


def _is_sequence(ours: Element, theirs: Element) -> bool:
    if ours.tag == PIXEL_DATA:
        return False
    return _vr_of(ours, theirs) == b"SQ" or UNDEFINED in (ours.length_bytes, theirs.length_bytes)


def _vr_of(ours: Element, theirs: Element) -> bytes:
    """Return the VR of an attribute, as one of the two has it, or as the standard's dictionary has it."""
    written = (each.vr for each in (ours, theirs) if each.vr not in (b"", b"UN"))
    return next(written, None) or dictionary_vr(ours.tag)
