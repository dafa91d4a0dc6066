"""The rules by which instances are edited while they are sent: values of attributes, and UIDs.

Rules are plain values; `edit_file` reads them from a file, and `edits` applies them to a head. A rule holds for one
level: the data set itself, or the items of a sequence, which have rules of their own.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from bulkstow.model import Header
from bulkstow.wire.attributes import dictionary_vr
from bulkstow.wire.part10 import SERIES, SOP_INSTANCE, STUDY

_STANDARD_ROOT = "1.2.840.10008."
"""The root of the UIDs that the standard itself defines: SOP classes, coding schemes, well-known frames of reference.
They name no instance, so they are never edited."""

_NO_INSTANCE = frozenset(
    {
        *(0x0002_0002, 0x0002_0010, 0x0002_0012, 0x0002_0032, 0x0002_0100),  # file meta information
        *(0x0008_0016, 0x0008_001A, 0x0008_001B, 0x0008_0062, 0x0008_1150, 0x0008_115A),  # SOP classes
        *(0x0008_040E, 0x0008_3002, 0x0034_0003, 0x0400_0010, 0x0400_0510),  # transfer syntaxes
        *(0x3010_0052, 0x3010_0053),  # SOP classes of a study and a series
        *(0x0008_010C, 0x0008_010D, 0x0008_0117, 0x0008_0118),  # coding schemes, context groups
        *(0x0040_DB0C, 0x0040_DB0D),  # creators of templates
        *(0x0008_0014, 0x0008_9123, 0x0018_1002, 0x0018_100B),  # devices and their makers
        *(0x0040_E011, 0x0040_E030, 0x0040_E031),  # repositories
    }
)
"""Public attributes of VR UI that identify no instance, no part of one, and no frame of reference."""


@dataclass(frozen=True, slots=True)
class Private:
    """A private attribute: its block is where the creator has reserved one (PS3.5 §7.8.1)."""

    group: int
    creator: str
    number: int
    """The last two digits of its tag."""

    def __str__(self) -> str:
        return f"({self.group:04X},{self.creator},{self.number:02X})"


Attribute = int | Private
"""An attribute, by its tag or as a private one."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Leave the attribute out."""


@dataclass(frozen=True, slots=True)
class SetTo:
    """Set the attribute to a text, with backslashes between values, or to numbers; a public one is added if absent."""

    value: str | tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Extend:
    """Put texts before and after each value that is not empty."""

    prefix: str
    suffix: str


Action = Remove | SetTo | Extend


@dataclass(frozen=True, slots=True)
class Table:
    """New values of some attributes by the old value of one; `rows` has a text for each attribute of `targets`."""

    name: str
    """The name of its file, for messages."""
    by: Attribute
    targets: tuple[Attribute, ...]
    rows: Mapping[str, tuple[str, ...]] = field(repr=False)
    keeps_missing: bool
    """An instance whose value has no row stays as it is; otherwise it is a failure."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one level; an attribute has one rule at most."""

    actions: Mapping[Attribute, Action] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    inner: Mapping[Attribute, Rules] = field(default_factory=dict)
    """The rules of the items of sequences."""


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Regenerate:
    """New UIDs by a keyed hash, below 2.25 (PS3.5 §B.2): the same key makes of a UID the same one in every run.

    Without the key, the old UID cannot be found by trying UIDs.
    """

    key: bytes = field(repr=False)

    def new_uid(self, uid: str) -> str:
        """Return the UID that replaces another one."""
        number = int.from_bytes(hmac.digest(self.key, uid.encode("latin-1"), "sha256")[:16])
        # The version (8, free use) and the variant of a UUID (RFC 9562 §5.8); 122 bits remain.
        number = number & ~(0xF << 76) | 8 << 76
        return f"2.25.{number & ~(3 << 62) | 2 << 62}"


@dataclass(frozen=True, slots=True)
class AppendToUids:
    """New UIDs by appending a suffix such as `.1`."""

    suffix: str

    def new_uid(self, uid: str) -> str:
        """Return the UID that replaces another one."""
        return uid + self.suffix


@dataclass(frozen=True, slots=True)
class Edits:
    """All edits of a run."""

    rules: Rules = NO_RULES
    uids: Regenerate | AppendToUids | None = None
    digest: str = ""
    """A digest of the rules and of a UID that the key makes: edits of another digest make other instances."""

    def new_uid(self, uid: str) -> str:
        """Return the UID that replaces another one; an empty one and those of the standard stay."""
        is_kept = self.uids is None or not uid or uid.startswith(_STANDARD_ROOT)
        return uid if is_kept or self.uids is None else self.uids.new_uid(uid)

    def header(self, header: Header) -> Header:
        """Return the UIDs after the edits, for an instance of which nothing else is known; tables are left out."""

        def edited(tag: int, uid: str) -> str:
            action = self.rules.actions.get(tag)
            if isinstance(action, SetTo):
                return str(action.value)
            return f"{action.prefix}{uid}{action.suffix}" if isinstance(action, Extend) else self.new_uid(uid)

        return Header(
            edited(STUDY, header.study_uid),
            edited(SERIES, header.series_uid),
            edited(SOP_INSTANCE, header.sop_instance_uid),
            header.sop_class_uid,
            header.transfer_syntax_uid,
            header.modality,
            header.study_date,
        )


def identifies_instance(tag: int) -> bool:
    """Return whether the UIDs of a public attribute identify an instance, a part of one, or a frame of reference."""
    return dictionary_vr(tag) == b"UI" and tag not in _NO_INSTANCE
