"""Archives to send: synthetic ones, and everything at hand in one tree."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom

from bulkstow.model import Header
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, dicomdir, part10

DEFLATED = "1.2.840.10008.1.2.1.99"
ROOT_UID = "1.2.826.0.1.3680043.10.1447"

HOSTILE = (
    b"\r\n--boundary\r\nContent-Type: application/dicom\r\n\r\n"
    b"\r\n--boundary--\r\n\r\n--\r\nContent-Type: application/dicom\r\nContent-Length: 4\r\n\r\nDICM\r\n--boundary--"
)
"""What ends a part, and a body, for a reader that looks for delimiters where there are none."""


def header(study: int, number: int) -> Header:
    """Return UIDs of nobody's instance."""
    study_uid = f"{ROOT_UID}.{study}"
    series_uid = f"{study_uid}.1"
    return Header(study_uid, series_uid, f"{series_uid}.{number}", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)


def synthetic(directory: Path, *, studies: int = 2, instances: int = 10, rows: int = 16) -> dict[str, Path]:
    """Fill a directory with studies of so many instances each, and return the files by SOP Instance UID."""
    files: dict[str, Path] = {}
    for study in range(1, studies + 1):
        folder = directory / f"study{study:02}"
        folder.mkdir(parents=True)
        for number in range(1, instances + 1):
            uids = header(study, number)
            path = files[uids.sop_instance_uid] = folder / f"IM{number:06}"
            path.write_bytes(part10(uids, rows=rows, columns=rows, number=number))
    return files


def mixed(directory: Path) -> None:
    """Fill a directory with pydicom's test files, those of pydicom-data, and what else archives hold."""
    import data_store

    shutil.copytree(Path(pydicom.__file__).parent / "data" / "test_files", directory / "pydicom")
    shutil.copytree(Path(data_store.__file__).parent / "data", directory / "pydicom-data")
    for name, content in _oddities():
        path = os.fsencode(directory) + b"/odd/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
        with open(path, "wb") as file:  # noqa: PTH123 - bytes
            file.write(content)


def _oddities() -> Iterator[tuple[bytes, bytes]]:
    yield b".DS_Store", b"\0\0\0\1Bud1" + bytes(100)
    yield b"report.pdf", b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"
    yield b"viewer/index.html", b"<!DOCTYPE html><html><title>Viewer</title></html>"
    yield b"export.zip", _zipped(part10(header(90, 1)))
    yield b"DICOMDIR", dicomdir()
    yield b"looks-like.dcm", bytes(128) + b"DICM"
    yield b"empty.dcm", b""
    lonely = part10(header(91, 1), rows=256, columns=256)
    yield b"half.dcm", lonely[: len(lonely) // 2]
    # The half comes first in every order of names, and the whole file has to get its turn all the same.
    twice = part10(header(91, 2), rows=256, columns=256)
    yield b"twice/1-half.dcm", twice[: len(twice) // 2]
    yield b"twice/2-whole.dcm", twice
    yield b"twice/3-again.dcm", twice
    pixels = 64 * 64
    plain = part10(header(92, 1), rows=64, columns=64)
    yield b"delimiter.dcm", plain[:-pixels] + (HOSTILE * pixels)[:pixels]
    yield b"delimiter-at-end.dcm", part10(header(92, 2), rows=64, columns=64)[: -len(HOSTILE)] + HOSTILE
    yield b"IM000001", part10(header(93, 1))
    yield b"1.2.840.113619.2.1.1", part10(header(93, 2))
    yield b"caf\xe9 \xff\xfe/IM\x80 1", part10(header(94, 1))
    # Its reason names the other, so it holds what is not UTF-8.
    yield b"caf\xe9 \xff\xfe/IM\x80 2", part10(header(94, 1))
    yield b"line\nfeed\t;$(x) '\"", part10(header(94, 2))
    yield b"not-utf8-\xe9.txt", b"Gr\xfc\xdfe"
    for number, vr in enumerate((b"--", b"  ", b"??", b"\0\0"), start=1):
        yield b"vr/%d.dcm" % number, _with_element(header(95, number), b"\x10\0\xb0\x21" + vr + b"\x54\0" + b"x" * 84)
    yield b"vr/of-the-future.dcm", _with_element(header(95, 5), b"\x11\0\x10\x10ZZ\0\0\x54\0\0\0" + b"x" * 84)
    yield b"vr/damaged.dcm", _with_element(header(95, 6), b"\x10\0\xb0\x21--\xff\xff" + b"x" * 84)
    yield b"nul-in-uid.dcm", _with_nul_in_study_uid(header(96, 1))
    yield b"export.tar", _tarred(part10(header(97, 1)))
    yield b"export.gz", gzip.compress(part10(header(97, 2)))
    yield b"export.xz", lzma.compress(part10(header(97, 3)))
    yield b"export.bz2", bz2.compress(part10(header(97, 4)))
    yield b"letter.docx", _zipped(b"<Types/>", "[Content_Types].xml")
    yield b"preamble.dcm", b"\x1f\x8b\x08\0" + part10(header(98, 1))[4:]
    yield b"head-cut.dcm", part10(header(98, 2))[:300]
    yield b"bomb.dcm", _bomb(header(98, 3))


def _with_element(uids: Header, element: bytes) -> bytes:
    """Return an instance with an element in front of group 0020."""
    content = part10(uids)
    at = content.index(b"\x20\0\x0d\0UI")
    return content[:at] + element + content[at:]


def _with_nul_in_study_uid(uids: Header) -> bytes:
    """Return an instance whose Study Instance UID goes on behind a NUL."""
    content = part10(uids)
    at = content.index(b"\x20\0\x0d\0UI")
    length_bytes = int.from_bytes(content[at + 6 : at + 8], "little")
    value = uids.study_uid.encode() + b"\0junk"
    value += b"\0" * (len(value) % 2)
    return content[: at + 6] + len(value).to_bytes(2, "little") + value + content[at + 8 + length_bytes :]


def _bomb(uids: Header) -> bytes:
    """Return a file of 100 KB whose deflated data set is one private value of 100 MB."""
    content = part10(replace(uids, transfer_syntax_uid=DEFLATED))
    private = b"\x11\0\x10\x10OB\0\0" + (100_000_000).to_bytes(4, "little") + bytes(100_000_000)
    return content[: content.index(b"\x08\0\x16\0UI")] + zlib.compress(private, wbits=-15)


def _tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("IM000001")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _zipped(content: bytes, name: str = "IM000001") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def files_below(directory: Path) -> frozenset[str]:
    """Return the paths of all files, as `os.fsdecode` spells them."""
    return frozenset(f"{folder}/{name}" for folder, _, names in os.walk(directory) for name in names)
