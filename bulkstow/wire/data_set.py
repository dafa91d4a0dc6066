"""Reads data sets level by level: the elements of a data set or an item, and the items of a sequence.

Works in steps, as `elements` does: values are skipped, and only the positions of one level's elements are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bulkstow.wire.elements import Element, ElementReader, Syntax
from bulkstow.wire.part10 import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED
from bulkstow.wire.steps import Ended, Problem, Steps, makes_no_sense

FIRST_PIXEL_DATA = 0x7FE0_0008


class Item(NamedTuple):
    """An item of a sequence, or a fragment of encapsulated pixel data."""

    value_at: int
    end_at: int
    syntax: Syntax


@dataclass(frozen=True, slots=True)
class ElementList:
    """The elements of one level by tag."""

    elements: Mapping[int, Element]
    problem: str
    """Why the elements could not be read to the end of the level; "" if they could."""
    syntax: Syntax


def read_elements(reader: ElementReader, at: int, end_at: int | None, syntax: Syntax) -> Steps[ElementList]:
    """Return the elements from `at` to `end_at`, or, if that is None, to the end of the data.

    A stray delimiter is an element without a value. Two elements with the same tag are a problem.
    """
    found: dict[int, Element] = {}
    try:
        while end_at is None or at < end_at:
            element = yield from reader.element(at, syntax)
            if element is None:
                break
            at = yield from _past(reader, element, syntax)
            if element.tag in found:
                raise Problem(f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X}) is there twice")
            found[element.tag] = element
    except Ended as ended:
        # Some writers leave one or two bytes after the pixel data.
        if ended.truncation.tag is None and max(found, default=0) >= FIRST_PIXEL_DATA:
            return ElementList(found, "", syntax)
        return ElementList(found, str(ended.truncation), syntax)
    except Problem as problem:
        return ElementList(found, str(problem), syntax)
    return ElementList(found, "", syntax)


def read_items(reader: ElementReader, sequence: Element, syntax: Syntax) -> Steps[list[Item]]:
    """Return the items of a sequence, or the fragments of pixel data. Raises Problem."""
    items: list[Item] = []
    at = sequence.value_at
    is_open = sequence.length_bytes == UNDEFINED
    end_at = at if is_open else at + sequence.length_bytes
    while is_open or at < end_at:
        item = yield from reader.element(at, syntax)
        if item is None or item.tag == SEQUENCE_END:
            break
        if item.tag != ITEM:
            raise makes_no_sense(at)
        inner = syntax
        if sequence.vr == b"UN":
            inner = yield from reader.syntax_in_unknown(item.value_at, syntax)
        if item.length_bytes == UNDEFINED:
            item_end_at, at = yield from _past_item(reader, item.value_at, inner)
        else:
            item_end_at = at = reader.end_of(item)
        items.append(Item(item.value_at, item_end_at, inner))
    return items


def _past(reader: ElementReader, element: Element, syntax: Syntax) -> Steps[int]:
    if element.length_bytes == UNDEFINED:
        return (yield from reader.past_undefined(element, syntax))
    return reader.end_of(element)


def _past_item(reader: ElementReader, at: int, syntax: Syntax) -> Steps[tuple[int, int]]:
    """Return where the content of an item of undefined length ends, and where its delimiter ends."""
    while True:
        element = yield from reader.element(at, syntax)
        if element is None:
            raise makes_no_sense(at)
        if element.tag == ITEM_END:
            return at, element.value_at
        at = yield from _past(reader, element, syntax)
