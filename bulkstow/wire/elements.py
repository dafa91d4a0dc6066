"""Reads single elements of DICOM data in any encoding, also of files that are damaged or not conforming.

Non-conforming elements are read as DCMTK reads them. A generator yields a `Need` and is sent the bytes, so values are
skipped without being read, and memory does not grow with them. If an element can be read in more than one way, the
reader chooses the way that leads to a plausible next element; if there is none, it raises `Problem`. The choice of
elements is left to `tolerant_reader`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from bulkstow.wire.part10 import ITEM, ITEM_END, LONG_VRS, SEQUENCE_END, SHORT_VRS, UNDEFINED, bare_uid
from bulkstow.wire.steps import CUT_OFF, CutOff, Ended, Need, Problem, Steps, TooLong, makes_no_sense

MOST_ELEMENTS = 200_000
"""The most elements and items of one file that are read.

Reading them takes 0.5 s. A key object selection of 5,000 images has 20,000 before group 0020."""

MOST_READ_BYTES = 64 * 2**20
"""The most bytes of one file that are read; values that are skipped by their length do not count.

Inflating them takes 0.2 s. The longest head among pydicom's files has 35 KB."""

_LONGEST_UID_BYTES = 1024
"""A UID has 64 characters at most (PS3.5 §9.1); archives hold longer ones."""

_SCAN_BYTES = 2**16
"""Size of a read while a delimiter is searched for."""

_VRS = SHORT_VRS | LONG_VRS
_DELIMITER_GROUP = 0xFFFE
_HIGHEST_HEAD_GROUP = 0x00FF
"""A head has groups from 0008 to 0020; read in the wrong byte order, or from text, they are higher."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """The encoding of elements: with or without a VR, and the byte order."""

    is_explicit: bool
    is_big: bool = False


EXPLICIT = Syntax(is_explicit=True)
IMPLICIT = Syntax(is_explicit=False)
_SYNTAXES = (EXPLICIT, IMPLICIT, Syntax(is_explicit=True, is_big=True), Syntax(is_explicit=False, is_big=True))


class Element(NamedTuple):
    """An element's tag, its VR (empty if none is written), and the position of its value."""

    tag: int
    vr: bytes
    value_at: int
    length_bytes: int


class _Unpack(NamedTuple):
    head: struct.Struct
    length16: struct.Struct
    length32: struct.Struct


_UNPACK = tuple(
    _Unpack(struct.Struct(f"{order}HHI"), struct.Struct(f"{order}H"), struct.Struct(f"{order}I")) for order in "<>"
)


class ElementReader:
    """Reads elements at offsets; raises `Problem`.

    `size_bytes` is the offset at which the data end; None if it is not known. A reader without limits is for files that
    are read anyway.
    """

    def __init__(self, size_bytes: int | None, *, is_limited: bool = True) -> None:
        self._size_bytes = size_bytes
        self._is_limited = is_limited
        self._window = b""
        self._window_at = 0
        self._elements = 0
        self._bytes = 0

    def bytes_at(self, at: int, size_bytes: int) -> Steps[bytes]:
        """Return this number of bytes, or fewer at the end of the data."""
        begin = at - self._window_at
        if begin < 0 or begin + size_bytes > len(self._window):
            self._window, self._window_at, begin = (yield from self._ask(at, size_bytes)), at, 0
        return self._window[begin : begin + size_bytes]

    def _ask(self, at: int, size_bytes: int) -> Steps[bytes]:
        # If the size is not known, all bytes before `at` are read (inflated), too.
        is_too_long = self._bytes > MOST_READ_BYTES or (self._size_bytes is None and at > MOST_READ_BYTES)
        if is_too_long and self._is_limited:
            raise TooLong(f"{MOST_READ_BYTES >> 20} MiB to look at")
        answer = yield Need(at, size_bytes)
        if answer is None:
            raise Problem(CUT_OFF)
        self._bytes += len(answer)
        return answer

    def element(self, at: int, syntax: Syntax) -> Steps[Element | None]:
        """Return the element, item or delimiter at an offset; None at the end of the data."""
        self._count()
        begin = at - self._window_at
        if 0 <= begin <= len(self._window) - 12:  # as `bytes_at`, for most elements: a generator takes 0.3 us
            head = self._window[begin : begin + 12]
        else:
            head = yield from self.bytes_at(at, 12)
        if len(head) < 8:
            if head:
                raise Ended(CutOff())
            return None
        unpack = _UNPACK[syntax.is_big]
        group, number, length_bytes = unpack.head.unpack_from(head)
        tag = group << 16 | number
        if group == _DELIMITER_GROUP or not syntax.is_explicit:
            return Element(tag, b"", at + 8, length_bytes)
        vr = head[4:6]
        if vr in SHORT_VRS:
            return Element(tag, vr, at + 8, *unpack.length16.unpack_from(head, 6))
        if vr in LONG_VRS:
            if len(head) < 12:
                raise Ended(CutOff())
            return Element(tag, vr, at + 12, *unpack.length32.unpack_from(head, 8))
        for is_strict in (True, False):
            for element in _readings(at, head, syntax):
                if (yield from self._leads_on(element, syntax, is_strict=is_strict)):
                    return element
        raise makes_no_sense(at)

    def _count(self) -> None:
        self._elements += 1
        if self._elements > MOST_ELEMENTS and self._is_limited:
            raise TooLong(f"{MOST_ELEMENTS} elements")

    def _leads_on(self, element: Element, syntax: Syntax, *, is_strict: bool, depth: int = 1) -> Steps[bool]:
        """Return whether a plausible element follows one of unknown VR; `is_strict` requires ascending tags."""
        self._count()
        try:
            if element.length_bytes == UNDEFINED:
                return (yield from self._begins_with_item(element.value_at, syntax))
            at = element.value_at + element.length_bytes
            head = yield from self.bytes_at(at, 12)
        except TooLong:
            raise
        except Problem:
            return False
        if not head:
            return True
        if len(head) < 8:
            return False
        group, number, _ = _UNPACK[syntax.is_big].head.unpack_from(head)
        tag, vr = group << 16 | number, head[4:6]
        if group == _DELIMITER_GROUP:
            return tag in (ITEM_END, SEQUENCE_END)
        if not is_strict or vr in _VRS:
            return vr in _VRS and (tag > element.tag or not is_strict)
        # Writers that do not know an element's VR, or leave it out, may do so with the next one.
        if tag <= element.tag or (group > _HIGHEST_HEAD_GROUP and vr != element.vr and group != element.tag >> 16):
            return False
        for following in _readings(at, head, syntax) if depth else ():
            if (yield from self._leads_on(following, syntax, is_strict=True, depth=depth - 1)):
                return True
        return not depth

    def past_undefined(self, element: Element, syntax: Syntax) -> Steps[int]:
        """Return the offset behind an element of undefined length."""
        try:
            if (yield from self._begins_with_item(element.value_at, syntax)):
                return (yield from self._past_items(element, syntax))
            return (yield from self._past_delimiter(element.value_at, syntax))
        except Ended:
            raise Ended(CutOff(element.tag)) from None

    def end_of(self, element: Element) -> int:
        """Return the offset behind an element of defined length."""
        end_at = element.value_at + element.length_bytes
        if self._size_bytes is not None and end_at > self._size_bytes:
            raise Ended(CutOff(element.tag, element.length_bytes, end_at - self._size_bytes))
        return end_at

    def _begins_with_item(self, at: int, syntax: Syntax) -> Steps[bool]:
        head = yield from self.bytes_at(at, 8)
        if len(head) < 8:
            raise Ended(CutOff())
        group, number, _ = _UNPACK[syntax.is_big].head.unpack_from(head)
        return group << 16 | number in (ITEM, SEQUENCE_END)

    def _past_items(self, of: Element, syntax: Syntax) -> Steps[int]:
        """Return the offset behind a sequence, or fragments, of undefined length (PS3.5 §7.5, §A.4).

        Sequences and items of undefined length nest strictly, so a number serves as the stack: odd within a sequence,
        even within an item.
        """
        at, depth = of.value_at, 1
        unknown_depth = 1 if of.vr == b"UN" else 0
        while depth:
            inner = syntax if not unknown_depth else (yield from self.syntax_in_unknown(at, syntax))
            element = yield from self.element(at, inner)
            if element is None:
                raise Ended(CutOff())
            if element.tag == (SEQUENCE_END if depth % 2 else ITEM_END):
                depth -= 1
                if depth < unknown_depth:
                    unknown_depth = 0
                at = element.value_at
            elif (element.tag == ITEM) != (depth % 2 == 1) or element.tag in (ITEM_END, SEQUENCE_END):
                raise makes_no_sense(at)
            elif element.length_bytes == UNDEFINED:
                depth += 1
                if element.vr == b"UN" and not unknown_depth:
                    unknown_depth = depth
                at = element.value_at
            else:
                at = self.end_of(element)
        return at

    def syntax_in_unknown(self, at: int, syntax: Syntax) -> Steps[Syntax]:
        """Return the encoding of an element within a UN of undefined length: without VR (PS3.5 §6.2.2), or `syntax`."""
        return syntax if (yield from self.bytes_at(at + 4, 2)) in _VRS else IMPLICIT

    def _past_delimiter(self, at: int, syntax: Syntax) -> Steps[int]:
        """Return the offset behind the next sequence delimiter, for a value without items."""
        pack = struct.Struct(">HH" if syntax.is_big else "<HH").pack
        delimiter = pack(SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF)
        while True:
            piece = yield from self._ask(at, _SCAN_BYTES)
            found = piece.find(delimiter)
            if found >= 0:
                return at + found + 8
            if len(piece) < _SCAN_BYTES:
                raise Ended(CutOff())
            at += len(piece) - len(delimiter) + 1

    def uid(self, element: Element) -> Steps[str]:
        """Return an element's value as a UID, "" if it is blank; of several UIDs the first, as servers do."""
        if element.length_bytes == UNDEFINED:
            raise makes_no_sense(element.value_at)
        wanted_bytes = min(element.length_bytes, _LONGEST_UID_BYTES)
        value = yield from self.bytes_at(element.value_at, wanted_bytes)
        if len(value) < wanted_bytes:
            raise Ended(CutOff(element.tag, element.length_bytes, element.length_bytes - len(value)))
        uid = bare_uid(value).partition(b"\\")[0].rstrip(b" ")
        where = f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X})"
        if len(uid) == _LONGEST_UID_BYTES:
            raise Problem(f"damaged: the UID in {where} has {element.length_bytes} bytes")
        if not uid and value.strip(b"\0 "):
            raise Problem(f"damaged: {where} holds something else than a UID")
        return uid.decode("latin-1")

    def syntax_at(self, at: int, announced: Syntax | None) -> Steps[Syntax]:
        """Return the encoding of the elements from `at`: the announced one if the first element fits it."""
        for syntax in (announced, *_SYNTAXES) if announced else _SYNTAXES:
            try:
                if (yield from self._fits(at, syntax)):
                    return syntax
            except Problem:
                continue
        is_explicit = (yield from self.bytes_at(at + 4, 2)) in _VRS
        return announced or Syntax(is_explicit)

    def _fits(self, at: int, syntax: Syntax) -> Steps[bool]:
        unpack = _UNPACK[syntax.is_big].head.unpack_from
        head = yield from self.bytes_at(at, 8)
        if len(head) < 8:
            return True
        group, _, length_bytes = unpack(head)
        if syntax.is_explicit != (head[4:6] in _VRS):
            return False
        if syntax.is_explicit:
            first = yield from self.element(at, syntax)
            is_usual = group <= _HIGHEST_HEAD_GROUP
            return is_usual or (first is not None and (yield from self._leads_on(first, syntax, is_strict=False)))
        if group > _HIGHEST_HEAD_GROUP:
            return False
        if length_bytes == UNDEFINED:
            return (yield from self._begins_with_item(at + 8, syntax))
        following = yield from self.bytes_at(at + 8 + length_bytes, 8)
        return not following or (len(following) == 8 and unpack(following)[0] <= _HIGHEST_HEAD_GROUP)


def _readings(at: int, head: bytes, syntax: Syntax) -> list[Element]:
    """Return the ways to read an explicit element of unknown VR, the likeliest first.

    DCMTK gives two letters, which may be a VR of the future (PS3.5 §7.1.2), a length of 4 bytes, and everything else
    one of 2 bytes. Some writers leave the VR out in single elements.
    """
    unpack = _UNPACK[syntax.is_big]
    group, number, length_without_vr = unpack.head.unpack_from(head)
    tag, vr = group << 16 | number, head[4:6]
    readings = [Element(tag, vr, at + 8, *unpack.length16.unpack_from(head, 6))]
    if len(head) == 12:
        readings.append(Element(tag, vr, at + 12, *unpack.length32.unpack_from(head, 8)))
    if vr.isalpha() and vr.isupper():
        readings.reverse()
    return [*readings, Element(tag, vr, at + 8, length_without_vr)]
