"""Texts of values: the character sets of the standard's examples, and text that no value can hold."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.text_values import ASCII, CHARACTER_SET_VRS, TextError, character_set, check_text


@pytest.mark.parametrize(
    ("names", "text", "value"),
    [
        (b"", "Adams^John", b"Adams^John"),
        (b"ISO_IR 100", "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
        (b"ISO_IR 192", "Wang^XiaoDong=王^小東", "Wang^XiaoDong=王^小東".encode()),
        (b"GB18030", "王^小东", b"\xcd\xf5^\xd0\xa1\xb6\xab "),
        (
            b"\\ISO 2022 IR 87",  # PS3.5 §H.3.1
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        (
            b"ISO 2022 IR 13\\ISO 2022 IR 87",  # PS3.5 §H.3.2
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        ),
        (
            b"\\ISO 2022 IR 149",  # PS3.5 §I.2
            "Hong^Gildong=洪^吉洞",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        ),
    ],
)
def test_names_are_written_as_the_standard_writes_them(names: bytes, text: str, value: bytes) -> None:
    """The examples of PS3.5 Annexes H to K, padded to an even length, and read again."""
    characters = character_set(names)
    written = characters.encode(text, "PN")
    assert written == value + b" " * (len(value) % 2)
    assert characters.decode(written, "PN") == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (b"", "é"),
        (b"ISO_IR 6", "é"),
        (b"ISO_IR 100", "山"),
        (b"\\ISO 2022 IR 87", "é"),
        (b"\\ISO 2022 IR 58", "张"),  # pydicom writes it without its escape sequence, so it would be read as "ÕÅ"
        (b"of the future", "é"),
    ],
)
def test_a_text_without_an_exact_encoding_is_refused(names: bytes, text: str) -> None:
    """No character is replaced, and nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoding it again
        with pytest.raises(TextError, match="character set of the instance"):
            character_set(names).encode(text, "LO")
    assert character_set(names).encode("plain", "LO") == b"plain "


def test_other_text_is_ascii() -> None:
    """A character set is for names and descriptions, not for codes."""
    with pytest.raises(TextError, match="a character that CS does not allow"):
        character_set(b"ISO_IR 192").encode("É", "CS")
    with pytest.raises(TextError, match="not in its character set"):
        character_set(b"ISO_IR 100").decode(b"\xe9", "CS")


@pytest.mark.parametrize("value", [b"\xe9t\xe9", b"\x80"])
def test_a_value_outside_of_its_character_set_cannot_be_read(value: bytes) -> None:
    """It is an error, not a text with replaced characters."""
    for characters in (ASCII, character_set(b"ISO_IR 192")):
        with pytest.raises(TextError, match="not in its character set"):
            characters.decode(value, "LO")


@given(st.text(max_size=40), st.sampled_from(sorted(CHARACTER_SET_VRS)), st.sampled_from([b"ISO_IR 192", b"GB18030"]))
def test_every_text_survives_unicode(text: str, vr: str, names: bytes) -> None:
    """Except for padding at its end, and for lone surrogates, which are no characters."""
    characters = character_set(names)
    if any("\ud800" <= character <= "\udfff" for character in text) or "\ufffd" in text:
        return
    value = characters.encode(text, vr)
    assert len(value) % 2 == 0
    assert characters.decode(value, vr) == text.rstrip("\0 ")


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("SH", "0123456789abcdef"),
        ("LO", "a\\" + "b" * 64),
        ("UI", "1." + "2" * 62),
        ("UI", ""),
        ("DA", "20200229"),
        ("TM", "235959.999999"),
        ("CS", "ABC_ 1"),
        ("IS", "-12345678901"),
        ("DS", "1.234567890123e2"),
        ("PN", "a" * 64 + "=" + "b" * 64),
        ("LT", "two\r\nlines\\and a backslash"),
        ("AS", "018M"),
    ],
)
def test_what_a_value_may_be(vr: str, text: str) -> None:
    """Each of several values has the length and the characters of PS3.5 Table 6.2-1."""
    check_text(text, vr)


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("SH", "0123456789abcdefg"),
        ("SH", "ok\\0123456789abcdefg"),
        ("SH", "two\nlines"),
        ("LO", "a\x1b"),
        ("LO", "b" * 65),
        ("UI", "1." + "2" * 63),
        ("UI", "1.2.x"),
        ("UI", "1.2\\x"),
        ("DA", "2020-02-29"),
        ("TM", "25:00"),
        ("CS", "lower"),
        ("IS", "123456789012345"),
        ("IS", "one"),
        ("DS", "1.2345678901234567"),
        ("PN", "a=b=c=d"),
        ("LT", "\x00"),
        ("AS", "18"),
    ],
)
def test_what_no_value_can_be(vr: str, text: str) -> None:
    """The reason names the VR, and does not quote the text."""
    with pytest.raises(TextError) as raised:
        check_text(text, vr)
    assert vr in str(raised.value) or "UID" in str(raised.value)
    assert text not in str(raised.value)
