"""Reads the rules of `--edit` from a parsed TOML document. Everything that is not understood is a ConfigurationError.

remove = ["OtherPatientIDs", "0029,SIEMENS CSA HEADER,10"]
[set]
InstitutionName = "Clinic North"
[prefix]
"RequestAttributesSequence/AccessionNumber" = "N-"
[suffix]
StudyID = "-2"
[[map]]
file = "ids.csv"
by = "PatientID"
old = "old ID"
new = { PatientID = "new ID", IssuerOfPatientID = "issuer" }
missing = "fail"
[uids]
method = "regenerate"
key_file = "edits.key"
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulkstow.errors import ConfigurationError
from bulkstow.wire.attributes import dictionary_vr, name_of
from bulkstow.wire.edit_rules import (
    Action,
    AppendToUids,
    Attribute,
    Edits,
    Extend,
    Private,
    Regenerate,
    Remove,
    Rules,
    SetTo,
    Table,
)
from bulkstow.wire.edits import FIRST_KEPT_GROUP, NUMBERS, number_value
from bulkstow.wire.part10 import SERIES, SOP_CLASS, SOP_INSTANCE, STUDY
from bulkstow.wire.text_values import TEXT_VRS, TextError, check_text

LEAST_KEY_BYTES = 16
"""The shortest key: 128 bits, as many as the hash has in a UID."""

Path = tuple[Attribute, ...]
"""An attribute, after the sequences in whose items it is."""

ReadTable = Callable[[str], Sequence[Sequence[str]]]
"""Returns the rows of a CSV file, its heading first."""

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),([^/]{1,64}),([0-9A-Fa-f]{2})\)?")
_CHARACTER_SET = 0x0008_0005
_FIXED = {
    SOP_CLASS: "the SOP class decides how an instance is read",
    _CHARACTER_SET: "all texts would have to be written again",
}
_UIDS = frozenset({STUDY, SERIES, SOP_INSTANCE})
_SECTIONS = frozenset({"remove", "set", "prefix", "suffix", "map", "uids"})


@dataclass(slots=True)
class _Level:
    """The rules of one level while they are gathered."""

    actions: dict[Attribute, Action] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    inner: dict[Attribute, _Level] = field(default_factory=dict)

    def at(self, sequences: Sequence[Attribute]) -> _Level:
        """Return the level in the items of nested sequences."""
        level = self
        for sequence in sequences:
            level = level.inner.setdefault(sequence, _Level())
        return level

    def rules(self) -> Rules:
        """Return the gathered rules."""
        return Rules(self.actions, tuple(self.tables), {key: level.rules() for key, level in self.inner.items()})


def parse_edits(
    document: Mapping[str, Any], name: str, read_table: ReadTable, read_key: Callable[[str | None], bytes]
) -> Edits:
    """Return the edits of a document; `name` is that of its file, for messages.

    `read_table` and `read_key` are given the names of other files as they are written in the document; `read_key` is
    given None if it names no file with the key.
    """
    return _Parser(name, read_table, read_key).parse(document)


EXAMPLE_UID = "1.2.840.10008"
"""The UID whose edited form stands for the key in a digest: the root of DICOM's own UIDs, which no instance has."""


class _Parser:
    def __init__(self, name: str, read_table: ReadTable, read_key: Callable[[str | None], bytes]) -> None:
        self._name = name
        self._read_table = read_table
        self._read_key = read_key
        self._level = _Level()
        self._digest = hashlib.sha256()

    def parse(self, document: Mapping[str, Any]) -> Edits:
        if unknown := sorted(document.keys() - _SECTIONS):
            raise self._error(unknown[0], f"expected one of {', '.join(sorted(_SECTIONS))}")
        self._digest.update(json.dumps(document, sort_keys=True, default=str).encode())
        for path in self._texts(document.get("remove", []), "remove"):
            self._add(f"remove {path!r}", path, Remove())
        for key, value in self._section(document, "set"):
            self._set(f"set.{key}", key, value)
        extensions = {name: dict(self._section(document, name)) for name in ("prefix", "suffix")}
        for key in dict.fromkeys([*extensions["prefix"], *extensions["suffix"]]):
            self._extend(key, extensions["prefix"].get(key), extensions["suffix"].get(key))
        tables = document.get("map", [])
        if not isinstance(tables, list):
            raise self._error("map", "expected [[map]], once for each table")
        for number, table in enumerate(tables, 1):
            self._add_table(f"map {number}", table)
        uids = self._uids(document["uids"]) if "uids" in document else None
        if uids is not None:
            # Another key makes other instances. Like the UIDs in a ledger, this one does not tell the key.
            self._digest.update(uids.new_uid(EXAMPLE_UID).encode())
        rules = self._level.rules()
        if rules == Rules() and uids is None:
            raise ConfigurationError(f"{self._name}: it has no rule")
        return Edits(rules, uids, self._digest.hexdigest()[:16])

    def _error(self, key: str, text: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name}: {key}: {text}")

    def _section(self, document: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
        section = document.get(name, {})
        if not isinstance(section, dict):
            raise self._error(name, f"expected a table: [{name}]")
        yield from section.items()

    def _texts(self, value: object, key: str) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._error(key, "expected a list of texts")
        return value

    def _set(self, key: str, path: str, value: object) -> None:
        values: list[Any] = value if isinstance(value, list) else [value]
        are_numbers = all(type(each) in (int, float) for each in values)
        if not values or not (are_numbers or all(isinstance(each, str) for each in values)):
            raise self._error(key, "expected a text, a number, or a list of texts or of numbers")
        attribute = self._path(key, path)[-1]
        vr = dictionary_vr(attribute).decode("ascii") if isinstance(attribute, int) else ""
        is_text = vr in TEXT_VRS or not are_numbers
        action = SetTo("\\".join(map(str, values)) if is_text else tuple(values))
        self._check(key, attribute, action.value)
        self._add(key, path, action)

    def _extend(self, path: str, prefix: object, suffix: object) -> None:
        key = f"{'suffix' if prefix is None else 'prefix'}.{path}"
        texts = ["" if text is None else text for text in (prefix, suffix)]
        if not all(isinstance(text, str) and "\\" not in text for text in texts) or not any(texts):
            raise self._error(key, "expected a text without a backslash")
        attribute = self._path(key, path)[-1]
        if isinstance(attribute, int) and dictionary_vr(attribute).decode("ascii") not in TEXT_VRS:
            raise self._error(key, "only a text can have a prefix or a suffix")
        self._add(key, path, Extend(str(texts[0]), str(texts[1])))

    def _add_table(self, key: str, table: object) -> None:
        if not isinstance(table, dict):
            raise self._error(key, "expected [[map]], once for each table")
        if unknown := sorted(table.keys() - {"file", "by", "old", "new", "missing"}):
            raise self._error(f"{key}.{unknown[0]}", "expected file, by, old, new or missing")
        file, by, missing = table.get("file"), table.get("by"), table.get("missing", "fail")
        if not isinstance(file, str) or not isinstance(by, str):
            raise self._error(key, "expected the name of a CSV file as `file`, and an attribute as `by`")
        if missing not in ("fail", "keep"):
            raise self._error(f"{key}.missing", "expected 'fail' or 'keep'")
        *sequences, attribute = self._path(f"{key}.by", by)
        last = by.rpartition("/")[2]
        old, new = table.get("old", "old"), table.get("new", {last: "new"})
        if not isinstance(old, str) or not isinstance(new, dict) or not new:
            raise self._error(key, "expected the heading of a column as `old`, and a table of headings as `new`")
        targets = {name: self._path(f"{key}.new.{name}", name) for name in new}
        if any(len(path) > 1 for path in targets.values()):
            raise self._error(f"{key}.new", "expected attributes without sequences: they are where `by` is")
        attributes = tuple(path[0] for path in targets.values())
        rows = self._rows(file, [old, *new.values()], attributes)
        level = self._level.at(sequences)
        for target in attributes:
            self._check_free(key, level, target)
        level.tables.append(Table(file, attribute, attributes, rows, keeps_missing=missing == "keep"))

    def _rows(
        self, file: str, headings: Sequence[object], attributes: Sequence[Attribute]
    ) -> dict[str, tuple[str, ...]]:
        """Return the new values by the old one. No message quotes a value, as it may be a patient's."""
        heading, *lines = self._read_table(file) or [[]]
        if absent := [each for each in headings if each not in heading]:
            raise ConfigurationError(f"{file}: line 1: no column {absent[0]!r}; expected {headings}, found {heading}")
        columns = [heading.index(str(each)) for each in headings]
        rows: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(lines, 2):
            if not line:
                continue
            if len(line) != len(heading):
                raise ConfigurationError(f"{file}: row {number}: {len(line)} columns, the heading has {len(heading)}")
            old, *new = (line[column].strip() for column in columns)
            if not old or (old in rows and rows[old] != tuple(new)):
                raise ConfigurationError(f"{file}: row {number}: {'two new values for one' if old else 'no'} old value")
            for attribute, value in zip(attributes, new, strict=True):
                self._check(f"{file}: row {number}", attribute, value)
            rows[old] = tuple(new)
            self._digest.update(json.dumps([old, *new]).encode())
        return rows

    def _uids(self, section: object) -> Regenerate | AppendToUids:
        if not isinstance(section, dict):
            raise self._error("uids", "expected a table: [uids]")
        method = section.get("method")
        allowed = {"regenerate": {"method", "key_file"}, "suffix": {"method", "suffix"}}.get(str(method))
        if allowed is None:
            raise self._error("uids.method", "expected 'regenerate' or 'suffix'")
        if unknown := sorted(section.keys() - allowed):
            raise self._error(f"uids.{unknown[0]}", f"not a setting of the method {method!r}")
        if method == "suffix":
            suffix = section.get("suffix")
            if not isinstance(suffix, str) or not re.fullmatch(r"(\.(0|[1-9][0-9]*))+", suffix):
                raise self._error("uids.suffix", "expected dots and numbers such as '.1'")
            return AppendToUids(suffix)
        file = section.get("key_file")
        if not (file is None or isinstance(file, str)):
            raise self._error("uids.key_file", "expected the name of a file")
        key = self._read_key(file)
        if len(key) < LEAST_KEY_BYTES:
            raise self._error("uids", f"the key has {len(key)} bytes, expected {LEAST_KEY_BYTES} or more")
        return Regenerate(key)

    def _add(self, key: str, path: str, action: Action) -> None:
        *sequences, attribute = self._path(key, path)
        level = self._level.at(sequences)
        self._check_free(key, level, attribute)
        if attribute in _UIDS and not sequences and (isinstance(action, Remove) or action == SetTo("")):
            raise self._error(key, "an instance needs it")
        level.actions[attribute] = action

    def _check_free(self, key: str, level: _Level, attribute: Attribute) -> None:
        """Raise ConfigurationError if an attribute has a rule already."""
        targets = {target for table in level.tables for target in table.targets}
        if attribute in level.actions or attribute in targets:
            raise self._error(key, "a second rule for one attribute")

    def _check(self, key: str, attribute: Attribute, value: str | tuple[int | float, ...]) -> None:
        """Raise ConfigurationError for a value that its attribute cannot hold."""
        if isinstance(attribute, Private):
            return
        vr = dictionary_vr(attribute).decode("ascii")
        if isinstance(value, str) and vr not in TEXT_VRS:
            raise self._error(key, f"a text, but {name_of(attribute)} is {vr}")
        if not isinstance(value, str) and vr not in NUMBERS:
            raise self._error(key, f"{name_of(attribute)} is {vr}: its value cannot be set, only removed")
        try:
            if isinstance(value, str):
                check_text(value, vr)
            else:
                number_value(value, vr)
        except TextError as error:
            raise self._error(key, str(error)) from None

    def _path(self, key: str, path: str) -> Path:
        parts = tuple(self._attribute(key, part) for part in path.split("/"))
        for part in parts[:-1]:
            if isinstance(part, int) and dictionary_vr(part) != b"SQ":
                raise self._error(key, f"{name_of(part)} is no sequence")
        return parts

    def _attribute(self, key: str, text: str) -> Attribute:
        if match := _PRIVATE.fullmatch(text):
            group = int(match[1], 16)
            if not group & 1:
                raise self._error(key, f"({match[1]},…) is not a private group: its number is even")
            return Private(group, match[2], int(match[3], 16))
        tag = int(match[1] + match[2], 16) if (match := _TAG.fullmatch(text)) else _tag_of(text)
        if tag is None:
            raise self._error(key, f"no attribute {text!r}: expected a keyword, GGGG,EEEE or GGGG,CREATOR,EE")
        if tag >> 16 & 1:
            raise self._error(key, "a private attribute: expected GGGG,CREATOR,EE")
        if not 0x0002 < tag >> 16 < FIRST_KEPT_GROUP or not tag & 0xFFFF:
            raise self._error(key, f"{name_of(tag)} cannot be edited: groups 0008 to 7FDF can, without group lengths")
        if tag in _FIXED:
            raise self._error(key, f"{name_of(tag)} cannot be edited: {_FIXED[tag]}")
        if not dictionary_vr(tag):
            raise self._error(key, f"{name_of(tag)} is not in the dictionary of DICOM")
        return tag


def _tag_of(keyword: str) -> int | None:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(keyword)
