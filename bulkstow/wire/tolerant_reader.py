"""The slow reader of heads that `part10` declines: unusual encodings, unusual writers and damage, in bounded memory.

Finds the UIDs of an instance, its modality and its study date among the elements of a file, and returns how far it
came: only a data set that was read to its end is known to contain no instance. It works in steps, as `elements` does.
`source.heads` reads the bytes, inflates deflated data sets, and decides about the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bulkstow.wire.data_set import FIRST_PIXEL_DATA
from bulkstow.wire.elements import EXPLICIT, IMPLICIT, ElementReader, Syntax
from bulkstow.wire.part10 import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    MEDIA_STORAGE_SOP_CLASS,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    TRANSFER_SYNTAX,
    UNDEFINED,
)
from bulkstow.wire.steps import CutOff, Ended, Problem, Steps, makes_no_sense
from bulkstow.wire.study_attributes import READ_BYTES, STUDY_ATTRIBUTES, study_attribute

_META_UIDS = frozenset({MEDIA_STORAGE_SOP_CLASS, TRANSFER_SYNTAX})
_UIDS = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
_META_GROUP = b"\x02\0"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The result of reading a file's elements, as far as they could be read."""

    uids: Mapping[int, str] = field(default_factory=dict)
    """UIDs by tag, without absent and blank ones. If a tag occurs twice, the first counts, as with DCMTK."""
    end_at: int = 0
    """The offset up to which the elements were read."""
    highest_tag: int = 0
    problem: str = ""
    """Why the elements could not be read further; "" if all UIDs were found, or the end was reached without error."""
    truncation: CutOff | None = None
    """Where the data end, if that is the problem."""
    attributes: Mapping[int, str] = field(default_factory=dict)
    """Modality and study date by tag, as far as they were found."""
    is_ordered: bool = True
    """The tags were in ascending order, so an attribute that was not found before a higher tag is absent."""


def read_meta(at: int, size_bytes: int) -> Steps[ReadResult]:
    """Read the file meta information at `at`, if there is any, in a file of `size_bytes` (PS3.10 §7.1).

    Group 0002 ends where another begins: (0002,0000) is wrong in many files.
    """
    reader = ElementReader(size_bytes)
    return (yield from _read(reader, at, EXPLICIT, _META_UIDS, is_meta=True))


def read_data_set(
    at: int, size_bytes: int | None, transfer_syntax_uid: str, *, to_end: bool = False
) -> Steps[ReadResult]:
    """Read the data set at `at` until an instance's four UIDs are found, or, with `to_end`, in any case to its end.

    `size_bytes` is the offset at which the data end, None where that is not known. The first element shows the
    encoding; in doubt the `transfer_syntax_uid` decides, which is empty where the file names none.
    """
    reader = ElementReader(size_bytes)
    try:
        syntax = yield from reader.syntax_at(at, announced_syntax(transfer_syntax_uid))
    except Problem as problem:
        return ReadResult(end_at=at, problem=str(problem))
    return (yield from _read(reader, at, syntax, _UIDS, to_end=to_end))


def announced_syntax(transfer_syntax_uid: str) -> Syntax | None:
    """Return the encoding of a transfer syntax; None if it is empty."""
    if transfer_syntax_uid in ("", IMPLICIT_LITTLE):
        return IMPLICIT if transfer_syntax_uid else None
    return Syntax(is_explicit=True, is_big=transfer_syntax_uid == EXPLICIT_BIG)


def _read(
    reader: ElementReader,
    at: int,
    syntax: Syntax,
    wanted: frozenset[int],
    *,
    is_meta: bool = False,
    to_end: bool = False,
) -> Steps[ReadResult]:
    uids: dict[int, str] = {}
    attributes: dict[int, str] = {}
    is_ordered = True
    highest_tag = 0

    def result(problem: str = "", truncation: CutOff | None = None) -> ReadResult:
        return ReadResult(uids, at, highest_tag, problem, truncation, attributes, is_ordered)

    try:
        while not is_meta or (yield from reader.bytes_at(at, 2)) == _META_GROUP:
            if (element := (yield from reader.element(at, syntax))) is None:
                break
            is_hole = not syntax.is_explicit and element.tag == 0 and element.length_bytes == 0
            if element.tag >> 16 == 0xFFFE or is_hole:
                raise makes_no_sense(at)
            if element.tag in wanted and element.tag not in uids and (uid := (yield from reader.uid(element))):
                uids[element.tag] = uid
                if len(uids) == len(wanted) and not (to_end or is_meta):
                    break
            if element.tag in STUDY_ATTRIBUTES:
                value = yield from reader.bytes_at(element.value_at, min(element.length_bytes, READ_BYTES))
                attributes.setdefault(element.tag, study_attribute(element.tag, value))
            is_ordered = is_ordered and element.tag > highest_tag
            highest_tag = max(highest_tag, element.tag)
            if element.length_bytes == UNDEFINED:
                at = yield from reader.past_undefined(element, syntax)
            else:
                at = reader.end_of(element)
    except Ended as ended:
        # Some writers leave one or two bytes after the pixel data.
        if ended.truncation.tag is None and highest_tag >= FIRST_PIXEL_DATA:
            return result()
        return result(str(ended), ended.truncation)
    except Problem as problem:
        return result(str(problem))
    return result()
