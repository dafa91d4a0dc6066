"""A tree of files, packed in the ways in which archives come: by the programs that people use, and by Python."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

TIMEOUT_S = 60.0
"""Ends a test whose program hangs."""

Pack = Callable[[Path, Path], Path]
"""Packs a tree (1) into an empty directory (2), and returns the source to name."""


def names_in(tree: Path) -> list[str]:
    """Return the files of a tree by their relative names, as `os.fsdecode` spells them, in the order of names."""
    start = len(str(tree)) + 1
    return sorted(f"{folder}/{name}"[start:] for folder, _, names in os.walk(tree) for name in names)


def in_unicode(name: str) -> str:
    """Return a name for formats that take Unicode only: the bytes of other names become characters of Latin-1."""
    return name if name.isascii() else os.fsencode(name).decode("latin-1")


def _run(program: str, *words: str, tree: Path, stdin: bytes | None = None) -> None:
    ended = subprocess.run([program, *words], cwd=tree, input=stdin, capture_output=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def info_zip(*options: str) -> Pack:
    """Return a packer that calls `zip`."""

    def pack(tree: Path, target: Path) -> Path:
        _run("zip", "-q", *options, str(target / "export.zip"), *names_in(tree), tree=tree)
        return target / "export.zip"

    return pack


def seven_zip(tree: Path, target: Path) -> Path:
    """Pack with `7zz`, which sorts the names itself."""
    _run("7zz", "a", "-tzip", "-bd", "-mx=1", "-mm=Deflate", str(target / "export.zip"), ".", tree=tree)
    return target / "export.zip"


def python_zip(tree: Path, target: Path) -> Path:
    """Pack with `zipfile`, by a method whose members have to be staged."""
    with zipfile.ZipFile(target / "export.zip", "w", zipfile.ZIP_BZIP2) as archive:
        for name in names_in(tree):
            archive.writestr(in_unicode(name), (tree / name).read_bytes())
    return target / "export.zip"


def gnu_tar(tree: Path, target: Path) -> Path:
    """Pack with `tar`, whose names are the bytes of the file system."""
    listed = b"".join(os.fsencode(name) + b"\0" for name in names_in(tree))
    _run("tar", "--format=gnu", "-cf", str(target / "export.tar"), "--null", "-T", "-", tree=tree, stdin=listed)
    return target / "export.tar"


def compressed_tar(ending: str, compress: Callable[[bytes], bytes]) -> Pack:
    """Return a packer of a compressed tar archive."""

    def pack(tree: Path, target: Path) -> Path:
        tar = gnu_tar(tree, target)
        packed = target / f"export.tar.{ending}"
        packed.write_bytes(compress(tar.read_bytes()))
        tar.unlink()
        return packed

    return pack


def gzip_files(tree: Path, target: Path) -> Path:
    """Compress each file by itself."""
    for name in names_in(tree):
        packed = target / f"{name}.gz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress((tree / name).read_bytes(), 1))
    return target


def zip_in_tar(tree: Path, target: Path) -> Path:
    """Pack a zip archive, and that into a tar archive."""
    packed = info_zip("-1")(tree, target)
    with tarfile.open(target / "outer.tar", "w") as archive:
        archive.add(packed, "2026/export.zip")
    packed.unlink()
    return target / "outer.tar"


def zstd(content: bytes) -> bytes:
    """Compress with Zstandard, which Python has from 3.14 on."""
    if sys.version_info >= (3, 14):
        from compression.zstd import compress
    else:
        from backports.zstd import compress
    return compress(content, 1)


PACKERS: Mapping[str, Pack] = {
    "zip, stored": info_zip("-0"),
    "zip, deflated": info_zip("-1"),
    "zip by 7-Zip": seven_zip,
    "zip with bzip2": python_zip,
    "tar": gnu_tar,
    "tar.gz": compressed_tar("gz", lambda content: gzip.compress(content, 1)),
    "tar.bz2": compressed_tar("bz2", lambda content: bz2.compress(content, 1)),
    "tar.xz": compressed_tar("xz", lambda content: lzma.compress(content, preset=0)),
    "tar.zst": compressed_tar("zst", zstd),
    "gzip files": gzip_files,
    "zip in tar": zip_in_tar,
}

PROGRAMS: Mapping[str, str] = {
    "zip, stored": "zip",
    "zip, deflated": "zip",
    "zip by 7-Zip": "7zz",
    "zip in tar": "zip",
}
"""Programs that may be missing; there is a tar wherever there is Python's."""


def missing_program(kind: str) -> str | None:
    """Return the program that a way of packing needs and this machine lacks."""
    program = PROGRAMS.get(kind)
    return None if program is None or shutil.which(program) else program
