"""Text of values: decoded and encoded in the character set of its data set, and checked for its VR (PS3.5 §6.1, §6.2).

Nothing is replaced or left out: a text that has no exact encoding is a `TextError`. The messages quote no value, as it
may be a patient's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from bulkstow.wire.uids import is_uid

CHARACTER_SET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose values are in the Specific Character Set; all other text is ASCII (PS3.5 §6.1.2.3)."""

TEXT_VRS = CHARACTER_SET_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
"""VRs whose values are text."""

SINGLE_VRS = frozenset({"LT", "ST", "UT", "UR"})
"""VRs whose values are never several: a backslash is a character of the text (PS3.5 Table 6.2-1)."""

_LINES_VRS = frozenset({"LT", "ST", "UT"})
"""VRs whose text may have several lines."""

_ASCII = "iso8859"
_CODECS = {_ASCII: "ascii", "iso_ir_58": "gb2312"}
"""Python's codecs for pydicom's names. For the default repertoire pydicom takes Latin-1."""

_KEPT = 64
"""Character sets and encoded texts that are kept, as the files of a study share them."""

_NUMBER_CHARACTERS = {"IS": 12, "DS": 16}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_CONTROLS_OF_LINES = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_DELIMITERS = {True: re.compile(r"([\\^=])"), False: re.compile(r"(\\)")}
"""Characters that end the effect of an escape sequence, in a person's name and in other values (PS3.5 §6.1.2.5.3)."""


class TextError(ValueError):
    """A text that its element cannot hold, or that cannot be read; the text of the error is a part of a reason."""


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The encodings of Specific Character Set (0008,0005), by pydicom's names; the first is the default one."""

    encodings: tuple[str, ...] = ("ascii",)

    def decode(self, value: bytes, vr: str) -> str:
        """Return the text of a value without its padding. Raises TextError."""
        encodings = self.encodings if vr in CHARACTER_SET_VRS else ("ascii",)
        try:
            if len(encodings) == 1 or b"\x1b" not in value:
                text = value.decode(_CODECS.get(encodings[0], encodings[0]))
            else:
                text = _decode_escaped(value, encodings, is_name=vr == "PN")
        except (UnicodeError, LookupError):
            text = "\ufffd"
        if "\ufffd" in text:
            raise TextError("a value that is not in its character set")
        return text.rstrip("\0 ")

    def encode(self, text: str, vr: str) -> bytes:
        """Return the value of a text, padded to an even length. Raises TextError."""
        if text.isascii():  # ASCII is a part of every default repertoire, and most texts are UIDs and numbers
            value = text.encode("ascii")
        elif vr not in CHARACTER_SET_VRS:
            raise TextError(f"a character that {vr} does not allow")
        else:
            value = _encode(text, self.encodings, is_name=vr == "PN")
        return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)


ASCII = CharacterSet()


@lru_cache(_KEPT)
def character_set(value: bytes) -> CharacterSet:
    """Return the character set in a value of (0008,0005); an unknown one can only hold ASCII."""
    from pydicom.charset import python_encoding

    names = [name.strip("\0 ") for name in value.decode("latin-1").split("\\")]
    encodings = [python_encoding.get(name, "") for name in names]
    return CharacterSet(tuple(encodings)) if all(encodings) and encodings != [_ASCII] else ASCII


def check_text(text: str, vr: str) -> None:
    """Raise TextError if a text is not valid for a VR (PS3.5 Table 6.2-1)."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if (_CONTROLS_OF_LINES if vr in _LINES_VRS else _CONTROLS).search(text):
        raise TextError(f"a character that {vr} does not allow")
    for single in [text] if vr in SINGLE_VRS else text.split("\\"):
        if vr == "UI":
            if single and not is_uid(single):
                raise TextError("a UID of more than 64 characters, or with others than digits and dots")
            continue
        if len(single) > _NUMBER_CHARACTERS.get(vr, len(single)):
            raise TextError(f"a value that is longer than {vr} allows")
        try:
            validate_value(vr, single, RAISE)
        except ValueError:
            raise TextError(f"a value that {vr} does not allow: too long, or with other characters") from None


def _encode(text: str, encodings: tuple[str, ...], *, is_name: bool) -> bytes:
    if len(encodings) == 1:
        try:
            return text.encode(encodings[0])
        except UnicodeError:
            raise TextError("a character that the character set of the instance does not have") from None
    value = b"".join(_encode_part(part, encodings) for part in _DELIMITERS[is_name].split(text))
    if _decode_escaped(value, encodings, is_name=is_name) != text:
        raise TextError("a character that the character set of the instance does not have")
    return value


def _encode_part(part: str, encodings: tuple[str, ...]) -> bytes:
    """Encode a text with escape sequences; pydicom replaces a character without an encoding, so there must be none."""
    from pydicom.charset import encode_string

    if not all(any(_has(encoding, character) for encoding in encodings) for character in set(part)):
        raise TextError("a character that the character set of the instance does not have")
    return encode_string(part, encodings)


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(_CODECS.get(encoding, encoding))
    except UnicodeError:
        return False
    return True


def _decode_escaped(value: bytes, encodings: tuple[str, ...], *, is_name: bool) -> str:
    from pydicom.charset import decode_bytes
    from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

    decode: Callable[..., str] = decode_bytes
    return decode(value, encodings, PN_DELIMS if is_name else TEXT_VR_DELIMS)
