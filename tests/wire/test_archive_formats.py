"""Archives and compressed files are recognised by their first bytes, as real programs write them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.archive_formats import Format, recognise


def zipped(*names: str) -> bytes:
    """Return a zip archive of files with these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"content")  # the same bytes in every run
    return buffer.getvalue()


def tarred(layout: int, name: str = "IM000001") -> bytes:
    """Return a tar archive of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def old_tar() -> bytes:
    """Return a tar header from before POSIX, which has a checksum but no magic."""
    header = bytearray(tarred(tarfile.USTAR_FORMAT)[:512])
    header[257:512] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(b"DICM", mtime=0), "a gzip file"),
        (zipped("IM000001"), "a zip archive"),
        (zipped(), "a zip archive"),
        (b"PK\x07\x08" + zipped("IM000001"), "a zip archive"),
        (tarred(tarfile.USTAR_FORMAT), "a tar archive"),
        (tarred(tarfile.GNU_FORMAT), "a tar archive"),
        (tarred(tarfile.PAX_FORMAT, "x" * 300), "a tar archive"),
        (old_tar(), "a tar archive"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\0", "a rar archive"),
        (b"Rar!\x1a\x07\1\0", "a rar archive"),
        (bz2.compress(b"DICM"), "a bzip2 file"),
        (bz2.compress(b""), "a bzip2 file"),
        (lzma.compress(b"DICM"), "an xz file"),
        (lzma.compress(b"DICM", format=lzma.FORMAT_ALONE), "an lzma file"),
        (b"\x28\xb5\x2f\xfd\x24", "a zstd file"),
        (b"\x50\x2a\x4d\x18\4\0\0\0abcd", "a zstd file"),
        (b"\x5f\x2a\x4d\x18\4\0\0\0abcd", "a zstd file"),
        (b"\x04\x22\x4d\x18\x64", "an lz4 file"),
        (b"\x1f\x9d\x90", "a file compressed by compress (.Z)"),
        (b"070701" + b"0" * 104, "a cpio archive"),
        (b"!<arch>\n", "an ar archive"),
        (b"\x1a\x20-lh5-\x10", "an lha archive"),
    ],
)
def test_an_archive_is_called_by_its_name(data: bytes, name: str) -> None:
    """Each format is recognised independently of the file's name, and may contain instances."""
    assert recognise(data) == Format(name)


@pytest.mark.parametrize(
    "first", ["[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF", "_rels/.rels", "docProps/app.xml"]
)
def test_office_documents_and_programs_hold_no_instances(first: str) -> None:
    """Office documents are zip archives, recognised by their first entry, that cannot contain instances."""
    assert recognise(zipped(first, "word/document.xml")) == Format(
        "an office document or a program", may_hold_instances=False
    )


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"BZh9 but text", b"%PDF-1.7" + bytes(600), bytes(600), b"]\0\0", b"07070", b"Grue\xdf" * 200]
)
def test_other_files_are_no_archives(data: bytes) -> None:
    """Similar and empty files are not recognised as archives."""
    assert recognise(data) is None


@given(st.binary(max_size=600), st.sampled_from([b"", b"PK\x03\x04", b"BZh9", b"\x5d\0\0", bytes(257) + b"usta"]))
def test_any_bytes_have_an_answer(tail: bytes, lead: bytes) -> None:
    """Any content has a format or None, and raises nothing."""
    assert isinstance(recognise(lead + tail), Format | None)
