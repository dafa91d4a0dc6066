"""The elements of one level of a head, and the bytes that replace them.

A level is a data set, an item, or the file meta information. Changed values are written in the encoding of the file;
lengths of sequences, items and groups follow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bulkstow.wire.attributes import dictionary_vr, name_of
from bulkstow.wire.edit_rules import Attribute, Private, Rules
from bulkstow.wire.elements import Element, ElementReader, Syntax
from bulkstow.wire.part10 import LONG_VRS, SHORT_VRS, UNDEFINED
from bulkstow.wire.steps import CUT_OFF, Problem, Steps
from bulkstow.wire.text_values import CharacterSet


class Patch(NamedTuple):
    """Bytes that replace `size_bytes` at an offset of the file."""

    at: int
    size_bytes: int
    data: bytes


def growth_bytes(patches: Iterable[Patch]) -> int:
    """Return by how many bytes patches make a file longer."""
    return sum(len(patch.data) - patch.size_bytes for patch in patches)


class Found(NamedTuple):
    """An element of a level, from its offset to its end, with the patches of its items."""

    element: Element
    at: int
    end_at: int
    patches: Sequence[Patch]


@dataclass(slots=True)
class Level:
    """The elements of a data set or an item, with the state that their edits need."""

    syntax: Syntax
    rules: Rules
    character_set: CharacterSet
    creators: dict[int, str] = field(default_factory=dict)
    """The creators of private blocks, by group and number of the block."""
    found: list[Found] = field(default_factory=list)
    end_at: int = 0
    """The offset behind its last element."""

    def attribute(self, tag: int) -> Attribute:
        """Return the tag, or the private attribute it stands for."""
        creator = self.creators.get(tag >> 8)
        return tag if creator is None else Private(tag >> 16, creator, tag & 0xFF)

    def tag(self, attribute: Attribute) -> int:
        """Return the tag of an attribute; 0 for a private one whose creator has no block."""
        if isinstance(attribute, int):
            return attribute
        blocks = (block for block, creator in self.creators.items() if creator == attribute.creator)
        return next((block << 8 | attribute.number for block in blocks if block >> 8 == attribute.group), 0)

    def elements(self, attributes: Iterable[Attribute]) -> dict[Attribute, Element]:
        """Return those of some attributes that are present."""
        by_tag = {found.element.tag: found.element for found in self.found} if attributes else {}
        present = ((attribute, by_tag.get(self.tag(attribute))) for attribute in attributes)
        return {attribute: element for attribute, element in present if element is not None}

    def vr(self, element: Element) -> str:
        """Return an element's VR; that of the dictionary if none is written."""
        is_written = element.vr != b"UN" and (element.vr in SHORT_VRS or element.vr in LONG_VRS)
        return (element.vr if is_written else dictionary_vr(element.tag)).decode("ascii")


def value_of(reader: ElementReader, element: Element) -> Steps[bytes]:
    """Return the value of an element. Raises Problem if the data end before."""
    value = yield from reader.bytes_at(element.value_at, element.length_bytes)
    if len(value) < element.length_bytes:
        raise Problem(CUT_OFF)
    return value


NewValues = dict[int, tuple[str, bytes] | None]
"""VRs and values by tag; None for an element to remove."""

_STAYS = ("", b"")
"""Stands for a value that is not edited."""


def patches_of(reader: ElementReader, level: Level, values: NewValues) -> Steps[list[Patch]]:
    """Return the patches of a level: new, removed and added elements, those of its sequences, and group lengths."""
    patches: list[Patch] = []
    growth_by_group: dict[int, int] = {}

    def note(tag: int, several: Sequence[Patch]) -> None:
        patches.extend(several)
        growth_by_group[tag >> 16] = growth_by_group.get(tag >> 16, 0) + growth_bytes(several)

    for element, at, end_at, inner in level.found:
        new = values.get(element.tag, _STAYS)
        if new is _STAYS:
            if inner:
                note(element.tag, inner)
        elif new is None:
            note(element.tag, [Patch(at, end_at - at, b"")])
        elif len(new[1]) != element.length_bytes or (yield from value_of(reader, element)) != new[1]:
            note(element.tag, [Patch(at, end_at - at, _element(element.tag, *new, level.syntax))])
    for tag in sorted(values.keys() - {found.element.tag for found in level.found}) if values else ():
        new = values[tag]
        if new is not None:
            following = (found.at for found in level.found if found.element.tag > tag)
            at = next(following, level.end_at)
            note(tag, [Patch(at, 0, _element(tag, *new, level.syntax))])
    for element, _, _, _ in level.found if patches else ():
        growth = growth_by_group.get(element.tag >> 16)
        if growth and not element.tag & 0xFFFF and element.length_bytes == 4:
            others = (each for each in level.found if each.element.tag >> 16 == element.tag >> 16)
            length_bytes = growth + sum(each.end_at - each.at for each in others if each.element is not element)
            patches.append(Patch(element.value_at, 4, length_bytes.to_bytes(4, _order(level.syntax))))
    # An element that is added comes before one that is replaced there; several of them stay in the order of their tags.
    return sorted(patches, key=lambda patch: patch[:2])


def with_length(of: Element, patches: Sequence[Patch], syntax: Syntax) -> list[Patch]:
    """Return the patches of a sequence or an item, with that of its length if it has a defined one."""
    growth = growth_bytes(patches)
    if not growth or of.length_bytes == UNDEFINED:
        return list(patches)
    length = (of.length_bytes + growth).to_bytes(4, _order(syntax))
    return [Patch(of.value_at - 4, 4, length), *patches]


def _order(syntax: Syntax) -> Literal["big", "little"]:
    return "big" if syntax.is_big else "little"


def _element(tag: int, vr: str, value: bytes, syntax: Syntax) -> bytes:
    """Return the bytes of an element. Raises Problem if it is too long for its VR."""
    order = ">" if syntax.is_big else "<"
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if not syntax.is_explicit:
        return head + struct.pack(f"{order}I", len(value)) + value
    name = vr.encode("ascii")
    if name in LONG_VRS:
        return head + name + b"\0\0" + struct.pack(f"{order}I", len(value)) + value
    if len(value) > 0xFFFE:
        raise Problem(f"{name_of(tag)} would be too long")
    return head + name + struct.pack(f"{order}H", len(value)) + value
