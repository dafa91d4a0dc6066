"""Archives that are packed in files, with pixels that compress as those of images do.

The pixels of a corpus are the same in each row, and compress to a hundredth; images compress to half, as their noise
does not.
"""

from __future__ import annotations

import io
import random
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.corpus import Corpus, Kind, header_of, make_room, path_of
from bulkstow.wire.synthetic import part10

IMAGES = 8
"""Images that differ; each slice has one of them from another pixel on. gzip looks 32 KiB back, so it finds none."""

ZIPS = 40
"""Zip archives that a corpus is packed in."""

NOISE_BITS = 3
"""Two random numbers of so many bits are added to each pixel."""


def noisy(kind: Kind, files: int) -> Iterator[tuple[str, bytes]]:
    """Yield the paths and contents of the first files of an archive."""
    images = [_image(kind, number) for number in range(IMAGES)]
    for number in range(files):
        plain = part10(header_of(kind, number), rows=kind.rows, columns=kind.columns, number=number)
        image = images[number % IMAGES]
        begin = number * 7919 % len(image)
        yield path_of(kind, number), plain[: -len(image)] + image[begin:] + image[:begin]


def _image(kind: Kind, number: int) -> bytes:
    """Return pixels: a slope with noise. As whole numbers, bytes are added without a loop over them."""
    count = kind.rows * kind.columns
    numbers = random.Random(number)
    mask = bytes(byte & (2**NOISE_BITS - 1) for byte in range(256))
    slope = b"".join(bytes([row * 200 // kind.rows]) * kind.columns for row in range(kind.rows))
    layers = (slope, *(numbers.randbytes(count).translate(mask) for _ in range(2)))
    return sum(int.from_bytes(layer, "little") for layer in layers).to_bytes(count, "little")


def compressed_tar(kind: Kind, top: Path, scale: float) -> Corpus:
    """Return so much of an archive of this kind as a tar.gz file, made below `top` if it is not there, and warm."""
    files = max(1, round(kind.files * scale))
    path = top / f"{kind.name}-{files}.tar.gz"
    if not path.exists():
        make_room(top, files * kind.file_bytes)
        unfinished = path.with_suffix(".part")
        with tarfile.open(unfinished, "w:gz", compresslevel=6) as archive:
            for name, content in noisy(kind, files):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        unfinished.rename(path)
    Corpus(path, 1, 0).warm()
    return Corpus(path, files, files * kind.file_bytes)


def stored_zips(archive: Corpus, top: Path) -> Corpus:
    """Return the files of a corpus in ZIPS zip archives that do not compress, made if they are not there, and warm."""
    paths = sorted(path for path in archive.directory.rglob("*") if path.is_file())
    contents = ((str(path.relative_to(archive.directory)), path.read_bytes()) for path in paths)
    return _zips(contents, archive, top / f"{archive.directory.name}.zips", zipfile.ZIP_STORED)


def deflated_zips(kind: Kind, top: Path, scale: float) -> Corpus:
    """Return so much of an archive of this kind in ZIPS zip archives that compress, likewise."""
    files = max(1, round(kind.files * scale))
    whole = Corpus(top, files, files * kind.file_bytes)
    return _zips(noisy(kind, files), whole, top / f"{kind.name}-{files}.deflated-zips", zipfile.ZIP_DEFLATED)


def _zips(contents: Iterator[tuple[str, bytes]], whole: Corpus, directory: Path, method: int) -> Corpus:
    if not directory.exists():
        make_room(directory.parent, whole.size_bytes)
        unfinished = directory.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for number in range(ZIPS):
            with zipfile.ZipFile(unfinished / f"{number:03}.zip", "w", method) as archive:
                for name, content in islice(contents, -(-whole.files // ZIPS)):
                    archive.writestr(name, content)
        unfinished.rename(directory)
    Corpus(directory, ZIPS, 0).warm()
    return Corpus(directory, whole.files, whole.size_bytes)
