"""Edits the head of an instance: finds the bytes to replace, and those that replace them.

Only changed elements are written again, in the encoding of the file: transfer syntax, byte order, character set,
lengths of sequences and groups. Every other byte stays as it is, the pixel data and everything behind them included.
It works in steps, as `elements` does, so that a source reads as little as possible.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from bulkstow.wire.attributes import dictionary_vr, name_of
from bulkstow.wire.edit_levels import Found, Level, NewValues, Patch, patches_of, value_of, with_length
from bulkstow.wire.edit_rules import (
    NO_RULES,
    Action,
    Attribute,
    Edits,
    Extend,
    Private,
    Remove,
    Rules,
    SetTo,
    identifies_instance,
)
from bulkstow.wire.elements import EXPLICIT, Element, ElementReader, Syntax
from bulkstow.wire.part10 import ITEM, ITEM_END, SEQUENCE_END, TRANSFER_SYNTAX, UNDEFINED, bare_uid
from bulkstow.wire.steps import CUT_OFF, Problem, Steps, makes_no_sense
from bulkstow.wire.text_values import (
    ASCII,
    SINGLE_VRS,
    TEXT_VRS,
    CharacterSet,
    TextError,
    character_set,
    check_text,
)

FIRST_KEPT_GROUP = 0x7FE0
"""The pixel data, and everything behind them, such as digital signatures and padding, stay as they are."""

MOST_VALUE_BYTES = 2**20
"""The longest value that is edited. An LT has 10,240 characters at most (PS3.5 Table 6.2-1), a UT has no limit."""

NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
"""The codes of `struct` for VRs whose values are numbers."""

_CHARACTER_SET = 0x0008_0005
_UID_VRS = frozenset({b"UI", b"UN", b""})
"""The VRs of UIDs: also the unknown one, and none."""

_META_GROUP = b"\x02\0"
_META_SOP_INSTANCE = 0x0002_0003
_KEPT_VALUES = 1024
"""Encoded texts that are kept, as the files of a study share them; checking and encoding one takes 3 to 6 µs."""


@dataclass(frozen=True, slots=True)
class DataSetEdits:
    """The edits of a data set."""

    patches: tuple[Patch, ...]
    """In the order of their offsets."""
    values: Mapping[int, str]
    """The new texts of attributes of the data set itself, by tag."""


def edit_data_set(edits: Edits, at: int, size_bytes: int, announced: Syntax | None) -> Steps[DataSetEdits]:
    """Return the edits of the data set that begins at `at`. Raises Problem if it cannot be read or edited."""
    return (yield from _DataSetEditor(edits, ElementReader(size_bytes)).run(at, announced))


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The file meta information of a file; without elements if there is none."""

    level: Level
    transfer_syntax_uid: str

    def edit(self, sop_instance_uid: str) -> Steps[list[Patch]]:
        """Return the patches that give it the SOP Instance UID of its data set."""
        if not self.level.found:
            return []
        value = _text_value(sop_instance_uid, "UI", ASCII)
        reader = ElementReader(self.level.end_at)
        return (yield from patches_of(reader, self.level, {_META_SOP_INSTANCE: ("UI", value)}))


def read_file_meta(at: int, size_bytes: int) -> Steps[FileMeta]:
    """Read group 0002 at `at`, which ends where another group begins. Raises Problem."""
    reader = ElementReader(size_bytes)
    level = Level(EXPLICIT, NO_RULES, ASCII)
    transfer_syntax_uid = ""
    while (yield from reader.bytes_at(at, 2)) == _META_GROUP:
        element = yield from reader.element(at, EXPLICIT)
        if element is None:
            break
        if element.tag == TRANSFER_SYNTAX:
            transfer_syntax_uid = yield from reader.uid(element)
        end_at = reader.end_of(element)
        level.found.append(Found(element, at, end_at, ()))
        at = end_at
    level.end_at = at
    return FileMeta(level, transfer_syntax_uid)


class _DataSetEditor:
    """Edits one data set, level by level."""

    def __init__(self, edits: Edits, reader: ElementReader) -> None:
        self._edits = edits
        self._reader = reader

    def run(self, at: int, announced: Syntax | None) -> Steps[DataSetEdits]:
        syntax = yield from self._reader.syntax_at(at, announced)
        level = Level(syntax, self._edits.rules, ASCII)
        yield from self._read(level, at, None, is_item=False)
        values, texts = yield from self._new_values(level)
        patches = yield from patches_of(self._reader, level, values)
        return DataSetEdits(tuple(patches), texts)

    def _read(self, level: Level, at: int, end_at: int | None, *, is_item: bool) -> Steps[int]:
        """Read the elements of a level, and edit those of its sequences; return the offset behind its delimiter."""
        while end_at is None or at < end_at:
            element = yield from self._reader.element(at, level.syntax)
            if element is None:
                if is_item:
                    raise Problem(CUT_OFF)
                break
            if not is_item and element.tag >> 16 >= FIRST_KEPT_GROUP and element.tag >> 16 != 0xFFFE:
                break
            if element.tag == ITEM_END and is_item and end_at is None:
                level.end_at = at
                return element.value_at
            if element.tag >> 16 == 0xFFFE:
                raise makes_no_sense(at)
            found = yield from self._found(level, element, at)
            level.found.append(found)
            at = found.end_at
        level.end_at = at
        return at

    def _found(self, level: Level, element: Element, at: int) -> Steps[Found]:
        """Return an element, with the patches of its items if it is a sequence with something to edit."""
        if element.tag == _CHARACTER_SET:
            level.character_set = character_set((yield from self._value(element)))
        elif element.tag >> 16 & 1 and 0x10 <= element.tag & 0xFFFF <= 0xFF:
            creator = (yield from self._value(element)).decode("latin-1").rstrip("\0 ")
            level.creators[element.tag >> 16 << 8 | element.tag & 0xFF] = creator
        if _is_sequence(level, element):
            inner = level.rules.inner
            rules = inner.get(level.attribute(element.tag), NO_RULES) if inner else NO_RULES
            if rules is not NO_RULES or self._edits.uids is not None:
                return (yield from self._sequence(level, element, at, rules))
        if element.length_bytes == UNDEFINED:
            return Found(element, at, (yield from self._reader.past_undefined(element, level.syntax)), ())
        return Found(element, at, self._reader.end_of(element), ())

    def _sequence(self, level: Level, sequence: Element, begin_at: int, rules: Rules) -> Steps[Found]:
        is_open = sequence.length_bytes == UNDEFINED
        at, end_at = sequence.value_at, 0 if is_open else self._reader.end_of(sequence)
        patches: list[Patch] = []
        while is_open or at < end_at:
            item = yield from self._reader.element(at, level.syntax)
            if item is None:
                raise Problem(CUT_OFF)
            if item.tag == SEQUENCE_END:
                at = item.value_at
                break
            if item.tag != ITEM:
                raise makes_no_sense(at)
            syntax = level.syntax
            if sequence.vr == b"UN":
                syntax = yield from self._reader.syntax_in_unknown(item.value_at, syntax)
            inner = Level(syntax, rules, level.character_set)
            item_end_at = None if item.length_bytes == UNDEFINED else self._reader.end_of(item)
            at = yield from self._read(inner, item.value_at, item_end_at, is_item=True)
            values, _ = yield from self._new_values(inner)
            patches += with_length(item, (yield from patches_of(self._reader, inner, values)), syntax)
        return Found(sequence, begin_at, at, with_length(sequence, patches, level.syntax))

    def _new_values(self, level: Level) -> Steps[tuple[NewValues, dict[int, str]]]:
        """Return the new values, and the new texts by tag; empty for an element to remove."""
        actions = yield from self._actions(level)
        values: NewValues = {}
        texts: dict[int, str] = {}
        present = level.elements(actions)
        for attribute, action in actions.items():
            element = present.get(attribute)
            if element is None and (isinstance(attribute, Private) or not isinstance(action, SetTo)):
                continue
            tag = attribute if isinstance(attribute, int) else element.tag if element is not None else 0
            if isinstance(action, Remove):
                values[tag], texts[tag] = None, ""
                continue
            vr = level.vr(element) if element is not None else dictionary_vr(tag).decode("ascii")
            try:
                new = yield from self._apply(action, level, element, vr)
                values[tag] = vr, _encoded(new, vr, level)
            except TextError as error:
                raise Problem(f"{name_of(tag)} would have {error}") from None
            texts[tag] = str(new)
        if self._edits.uids is not None:
            for found in level.found:
                element = found.element
                if element.vr in _UID_VRS and element.tag not in actions and identifies_instance(element.tag):
                    yield from self._edit_uid(element, values, texts)
        return values, texts

    def _edit_uid(self, element: Element, values: NewValues, texts: dict[int, str]) -> Steps[None]:
        old = bare_uid((yield from self._value(element))).decode("latin-1")
        new = "\\".join(self._edits.new_uid(uid.strip(" ")) for uid in old.split("\\"))
        if new == old:
            return
        try:
            values[element.tag] = "UI", _text_value(new, "UI", ASCII)
        except TextError as error:
            raise Problem(f"{name_of(element.tag)} would have {error}") from None
        texts[element.tag] = new

    def _actions(self, level: Level) -> Steps[Mapping[Attribute, Action]]:
        """Return the actions of a level, those of its tables included."""
        if not level.rules.tables:
            return level.rules.actions
        actions = dict(level.rules.actions)
        present = level.elements([table.by for table in level.rules.tables])
        for table in level.rules.tables:
            element = present.get(table.by)
            name = name_of(table.by) if isinstance(table.by, int) else str(table.by)
            try:
                old = "" if element is None else (yield from self._text(level, element, level.vr(element)))
            except TextError as error:
                raise Problem(f"{name} has {error}") from None
            row = table.rows.get(old.strip(" "))
            if row is not None:
                actions.update(zip(table.targets, map(SetTo, row), strict=True))
            elif not table.keeps_missing:
                raise Problem(f"its {name} is not in {table.name}")
        return actions

    def _apply(
        self, action: SetTo | Extend, level: Level, element: Element | None, vr: str
    ) -> Steps[str | tuple[int | float, ...]]:
        if isinstance(action, SetTo):
            return action.value
        if vr not in TEXT_VRS or element is None:
            raise TextError("a prefix or suffix, which only text can have")
        old = yield from self._text(level, element, vr)
        values = [old] if vr in SINGLE_VRS else old.split("\\")
        return "\\".join(f"{action.prefix}{value}{action.suffix}" if value else "" for value in values)

    def _text(self, level: Level, element: Element, vr: str) -> Steps[str]:
        return level.character_set.decode((yield from self._value(element)), vr)

    def _value(self, element: Element) -> Steps[bytes]:
        if element.length_bytes > MOST_VALUE_BYTES:
            raise Problem(f"{name_of(element.tag)} is too long")
        return (yield from value_of(self._reader, element))


def _is_sequence(level: Level, element: Element) -> bool:
    """Return whether an element has items; of one without a VR the dictionary tells, or its undefined length."""
    if element.vr == b"SQ":
        return True
    if element.vr not in (b"UN", b""):
        return False
    return element.length_bytes == UNDEFINED or level.vr(element) == "SQ"


def _encoded(value: str | tuple[int | float, ...], vr: str, level: Level) -> bytes:
    """Return the bytes of a value. Raises TextError."""
    if isinstance(value, str):
        if vr not in TEXT_VRS:
            raise TextError(f"a text, which {vr or 'an unknown VR'} does not allow")
        return _text_value(value, vr, level.character_set)
    if vr not in NUMBERS:
        raise TextError(f"numbers, which {vr or 'an unknown VR'} does not allow")
    return number_value(value, vr, is_big=level.syntax.is_big)


def number_value(value: tuple[int | float, ...], vr: str, *, is_big: bool = False) -> bytes:
    """Return the bytes of numbers. Raises TextError if the VR does not allow them."""
    try:
        return struct.pack(f"{'>' if is_big else '<'}{len(value)}{NUMBERS[vr]}", *value)
    except (struct.error, OverflowError):
        raise TextError(f"a number that {vr} does not allow") from None


@lru_cache(_KEPT_VALUES)
def _text_value(text: str, vr: str, characters: CharacterSet) -> bytes:
    check_text(text, vr)
    return characters.encode(text, vr)
