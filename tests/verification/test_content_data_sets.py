"""Claims about instances that are compared attribute by attribute: a table of pairs."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from bulkstow.verification import content_pixels
from bulkstow.verification.content_names import MOST_ATTRIBUTES
from bulkstow.verification.content_result import Different, NotCompared, SameDataSet
from bulkstow.verification.content_values import swap
from tests.verification.samples import Change, changed, compared, data_set, written

OURS = written(data_set())
PIXEL_DATA = "(7FE0,0010) PixelData"


def undefined_lengths(ds: Dataset) -> None:
    """Write all sequences and items with an undefined length."""
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                undefined_lengths(item)


def swapped_pixels(ds: Dataset) -> None:
    """Put the pixels into the byte order of Explicit VR Big Endian, which pydicom leaves to its users."""
    ds.PixelData = swap(ds.PixelData, 2)


def both(one: Change, other: Change) -> Change:
    """Return two changes as one."""

    def change(ds: Dataset) -> None:
        one(ds)
        other(ds)

    return change


def with_group_lengths(content: bytes) -> bytes:
    """Return a file with the length of group 0008, which is retired."""
    at = content.index(b"\x08\0\x16\0UI")
    return content[:at] + b"\x08\0\0\0UL\x04\0\x10\0\0\0" + content[at:]


def private_sequence(ds: Dataset) -> None:
    """Add a private sequence."""
    item = Dataset()
    item.CodeValue = "A"
    ds.private_block(0x0011, "BULKSTOW TEST").add_new(0x12, "SQ", [item])


def compressed(ds: Dataset) -> Dataset:
    """Compress the pixels by RLE."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless, generate_instance_uid=False)
    return ds


PADDING = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0"

SAME = {
    "implicit": written(data_set(), ImplicitVRLittleEndian),
    "big endian": written(changed(swapped_pixels), ExplicitVRBigEndian),
    "deflated": written(data_set(), DeflatedExplicitVRLittleEndian),
    "sequences of undefined length": written(changed(undefined_lengths)),
    "implicit, and of undefined length": written(changed(undefined_lengths), ImplicitVRLittleEndian),
    "big endian, and of undefined length": written(
        changed(both(swapped_pixels, undefined_lengths)), ExplicitVRBigEndian
    ),
    "group lengths": with_group_lengths(OURS),
    "trailing padding": OURS + PADDING,
    "a byte behind the pixels": OURS + b"\0",
    "padding of a text": OURS.replace(b"LO\x0a\0SYNTHETIC ", b"LO\x0c\0SYNTHETIC   "),
    "order": OURS.replace(
        b"\x28\0\x10\0US\x02\0\x08\0\x28\0\x11\0US\x02\0\x08\0", b"\x28\0\x11\0US\x02\0\x08\0\x28\0\x10\0US\x02\0\x08\0"
    ),
}


@pytest.mark.parametrize("received", SAME.values(), ids=SAME.keys())
@pytest.mark.parametrize("is_turned", [False, True])
def test_encoding_does_not_count(received: bytes, is_turned: bool) -> None:
    """The same attributes in another encoding are the same data set, on either side."""
    assert received != OURS
    result = compared(received, OURS) if is_turned else compared(OURS, received)
    assert isinstance(result, SameDataSet)


def test_the_note_names_both_transfer_syntaxes() -> None:
    """A transcoded data set is described by both names."""
    note = "Implicit VR Little Endian instead of Explicit VR Little Endian"
    assert compared(OURS, written(data_set(), ImplicitVRLittleEndian)) == SameDataSet(note)


def _set(name: str, value: object) -> Change:
    return lambda ds: setattr(ds, name, value)


def _pixel(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:50] + bytes([ds.PixelData[50] ^ 1]) + ds.PixelData[51:]


def _nested(ds: Dataset) -> None:
    ds.ReferencedImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeMeaning = "other"


def _many(count: int, first: int) -> Change:
    def change(ds: Dataset) -> None:
        for tag in range(first, first + count):
            ds.add_new(tag, "LO", "x")

    return change


def _private(ds: Dataset) -> None:
    ds[0x0011, 0x1011].value = [1.5, 2.25]


NESTED = (
    "(0008,1140) ReferencedImageSequence[1] > (0040,A170) PurposeOfReferenceCodeSequence[1] > (0008,0104) CodeMeaning"
)

DIFFERENT: dict[str, tuple[Change, tuple[str, ...]]] = {
    "changed": (_set("PatientName", "Somebody"), ("(0010,0010) PatientName",)),
    "emptied": (_set("PatientID", ""), ("(0010,0020) PatientID",)),
    "filled": (_set("PatientBirthDate", "20000101"), ("(0010,0030) PatientBirthDate",)),
    "another number": (_set("Rows", 9), ("(0028,0010) Rows",)),
    "zero is not empty": (_set("PixelRepresentation", None), ("(0028,0103) PixelRepresentation",)),
    "leading space": (_set("PatientComments", " odd"), ("(0010,4000) PatientComments",)),
    "added": (_set("RetrieveAETitle", "SERVER"), ("(0008,0054) RetrieveAETitle added",)),
    "added at the end": (_many(1, 0x7FE1_0010), ("(7FE1,0010) added",)),
    "removed": (lambda ds: ds.pop("PatientComments"), ("(0010,4000) PatientComments removed",)),
    "nested": (_nested, (NESTED,)),
    "an item more": (lambda ds: ds.ProcedureCodeSequence.append(Dataset()), ("(0008,1032) ProcedureCodeSequence",)),
    "private": (_private, ("(0011,1011)",)),
    "one pixel": (_pixel, (PIXEL_DATA,)),
    "two": (both(_nested, _pixel), (NESTED, PIXEL_DATA)),
    "another instance": (
        both(_set("SOPInstanceUID", "2.25.4"), _set("PatientName", "Somebody")),
        ("(0008,0018) SOPInstanceUID",),
    ),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize(("change", "expected"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_content_counts(change: Change, expected: tuple[str, ...], syntax: str) -> None:
    """Attributes that a server has changed, added or removed are named, in the same and in other encodings."""
    assert compared(OURS, written(changed(change), syntax)) == Different(expected)


def test_the_list_is_bounded() -> None:
    """Of many attributes that differ, the first are named and the others counted."""
    result = compared(OURS, written(changed(_many(MOST_ATTRIBUTES + 5, 0x0015_1000))))
    assert isinstance(result, Different)
    assert (len(result.attributes), result.attributes[-1]) == (MOST_ATTRIBUTES + 1, "and 5 more")


def test_no_value_is_repeated() -> None:
    """The names of differing attributes contain no value, as it may be a patient's."""
    received = written(changed(_set("PatientName", "Secret^Patient")))
    assert "Secret" not in repr(compared(OURS, received))
    assert "Nobody" not in repr(compared(OURS, received))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_private_sequence_of_unknown_vr(syntax: str) -> None:
    """A private sequence is compared item by item if only one side knows that it is one."""
    ours = written(changed(private_sequence))
    buffer = io.BytesIO(written(changed(private_sequence), ImplicitVRLittleEndian))
    read = dcmread(buffer)
    assert isinstance(compared(ours, written(read, syntax)), SameDataSet)


NATIVE = data_set(frames=3)
COMPRESSED = written(compressed(data_set(frames=3)), RLELossless)


def test_transcoded_pixels_are_decoded() -> None:
    """Pixels that a server has compressed or decompressed without loss are the same data set."""
    note = "RLE Lossless instead of Explicit VR Little Endian"
    assert compared(written(NATIVE), COMPRESSED) == SameDataSet(note)
    assert isinstance(compared(COMPRESSED, written(NATIVE)), SameDataSet)
    assert isinstance(compared(written(NATIVE, ImplicitVRLittleEndian), COMPRESSED), SameDataSet)
    assert isinstance(compared(written(NATIVE, DeflatedExplicitVRLittleEndian), COMPRESSED), SameDataSet)


TRANSCODED_OTHERWISE = {
    "one pixel": compressed(changed(_pixel, frames=3)),
    "a frame less": compressed(data_set(frames=2)),
}


@pytest.mark.parametrize("received", TRANSCODED_OTHERWISE.values(), ids=TRANSCODED_OTHERWISE.keys())
def test_transcoded_pixels_that_differ(received: Dataset) -> None:
    """Other pixels in another transfer syntax are different."""
    result = compared(written(NATIVE), written(received, RLELossless))
    assert isinstance(result, Different)
    assert PIXEL_DATA in result.attributes


def test_colour_is_compared_as_decoded() -> None:
    """Planar configuration is encoding where the pixels of a colour image are transcoded."""

    def colour(planar: int) -> Change:
        def change(ds: Dataset) -> None:
            ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", planar
            ds.Rows, ds.Columns = 8, 5
            triples = bytes(n * 3 & 0xFF for n in range(120))
            ds.PixelData = b"".join(triples[n::3] for n in range(3)) if planar else triples

        return change

    ours = written(changed(colour(0), bits=8))
    received = compressed(changed(colour(0), bits=8))
    received.PlanarConfiguration = 1
    assert isinstance(compared(ours, written(received, RLELossless)), SameDataSet)
    assert compared(ours, written(changed(colour(1), bits=8))) == Different(
        ("(0028,0006) PlanarConfiguration", PIXEL_DATA)
    )


def _fragments(content: bytes) -> bytes:
    """Return a file with an empty offset table in place of the real one."""
    at = content.index(b"\xfe\xff\0\xe0", content.index(b"\xe0\x7f\x10\0OB"))
    length_bytes = int.from_bytes(content[at + 4 : at + 8], "little")
    assert length_bytes == 12
    return content[: at + 4] + bytes(4) + content[at + 8 + length_bytes :]


def test_offset_tables_do_not_count() -> None:
    """The basic offset table of compressed frames is encoding, the frames are content."""
    other = _fragments(COMPRESSED)
    assert compared(COMPRESSED, other) == SameDataSet("encoding")
    end_at = other.rindex(b"\xfe\xff\xdd\xe0")
    assert compared(COMPRESSED, other[: end_at - 3] + b"\xff" + other[end_at - 2 :]) == Different((PIXEL_DATA,))


def lossless_jpeg() -> tuple[bytes, bytes]:
    """Return an image compressed by lossless JPEG, and the same with zeros as native pixels."""
    path = get_testdata_file("SC_rgb_jpeg_gdcm.dcm")
    assert isinstance(path, str)
    ds = dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    native = dcmread(path)
    native.PixelData = bytes(native.Rows * native.Columns * native.SamplesPerPixel)
    native["PixelData"].is_undefined_length = False
    return written(ds, JPEGLosslessSV1), written(native)


def test_without_a_decoder_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels in a transfer syntax without decoder are not compared, and the message names the extra to install."""
    monkeypatch.setattr(content_pixels, "_is_decodable", lambda uid: uid != JPEGLosslessSV1)
    result = compared(*lossless_jpeg())
    assert isinstance(result, NotCompared)
    assert "JPEG Lossless" in result.reason
    assert "pip install '.[decoders]'" in result.reason


def test_a_known_difference_outweighs_a_missing_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute that differs makes the instance different, with the remark that the pixels were not compared."""
    monkeypatch.setattr(content_pixels, "_is_decodable", lambda uid: uid != JPEGLosslessSV1)
    ours, received = lossless_jpeg()
    ds = dcmread(io.BytesIO(received))
    ds.PatientID = "OTHER"
    result = compared(ours, written(ds))
    assert isinstance(result, Different)
    assert result.attributes[0] == "(0010,0020) PatientID"
    assert "were not decoded" in result.attributes[1]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-30] + bytes(30), lambda content: content.replace(b"\0\0\0\x02", b"\0\0\0\xff")]
)
def test_damaged_pixels_are_never_equal(damage: Callable[[bytes], bytes]) -> None:
    """Compressed pixels that cannot be decoded, or decode to others, are not the same."""
    result = compared(written(NATIVE), damage(COMPRESSED))
    assert isinstance(result, Different | NotCompared)


def _before_pixels(content: bytes, inserted: bytes) -> bytes:
    at = content.index(b"\xe0\x7f\x10\0")
    return content[:at] + inserted + content[at:]


ITEM_DELIMITER = b"\xfe\xff\x0d\xe0" + bytes(4)


def test_a_delimiter_that_ends_nothing_hides_nothing() -> None:
    """A stray item delimiter is encoding; the elements behind it are compared."""
    ours = _before_pixels(OURS, ITEM_DELIMITER)
    assert compared(ours, OURS) == SameDataSet("encoding")
    assert compared(ours, ours[:-1] + b"\xff") == Different((PIXEL_DATA,))


def test_an_attribute_that_is_there_twice_is_not_compared() -> None:
    """Readers take the first or the last of two elements with one tag, so nothing is known about such a file."""
    comment = b"\x28\0\x00\x40LO\x02\0"
    ours, received = (_before_pixels(OURS, comment + b"A " + comment + value) for value in (b"B ", b"C "))
    assert compared(ours, received) == NotCompared("its data set cannot be read to its end: (0028,4000) is there twice")


def test_a_file_that_is_cut_off_is_not_compared() -> None:
    """Only the server's copy of a whole file is damaged; of a file that is cut off itself the end is not known."""
    received = written(data_set(), ImplicitVRLittleEndian)
    damage = "pixel data cut off: 10 of 128 bytes missing"
    unknown = NotCompared(f"its data set cannot be read to its end: {damage}")
    assert compared(OURS, received[:-10]) == Different((f"the server's copy is damaged: {damage}",))
    assert compared(OURS[:-10], received) == unknown
    assert compared(OURS[:-10], received[:-10]) == unknown
    other = written(changed(_set("PatientID", "OTHER")), ImplicitVRLittleEndian)
    assert compared(OURS[:-10], other[:-10]) == Different(("(0010,0020) PatientID",))
