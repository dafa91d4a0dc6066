"""Compressed files are read as bounded streams; damage has a reason, and no wrong content passes a checksum."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import DamagedHead
from bulkstow.source import compressed
from bulkstow.source.compressed import BLOCK_BYTES, COMPRESSIONS, CompressedStream
from bulkstow.source.forward import ForwardFile
from bulkstow.source.windows import PartBytes
from bulkstow.wire.archive_formats import recognise

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PREFIX = b"something in front of it"
CONTENT = random.Random(1).randbytes(3000) * 300
"""900 KB, more than three blocks; the formats find its repetitions."""


EXAMPLES = 30
"""For each format; bzip2 takes a millisecond to begin."""


def _zstd(content: bytes) -> bytes:
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "a gzip file": gzip.compress,
    "a bzip2 file": bz2.compress,
    "an xz file": lzma.compress,
    "a zstd file": _zstd,
}
FORMATS = tuple(COMPRESS)
PROGRAMS = (("a gzip file", "gzip"), ("a bzip2 file", "bzip2"), ("an xz file", "xz"), ("a zstd file", "zstd"))


@contextmanager
def opened(path: Path, data: bytes, name: str) -> Iterator[CompressedStream]:
    """Yield a stream of data that are a part of a file."""
    path.write_bytes(PREFIX + data + b"something behind it")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield CompressedStream(ForwardFile(PartBytes(descriptor, len(PREFIX), len(data))).read, COMPRESSIONS[name])
    finally:
        os.close(descriptor)


def content_of(path: Path, data: bytes, name: str) -> bytes:
    """Return the whole content."""
    with opened(path, data, name) as stream:
        return b"".join(iter(stream.read_block, b""))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=3), zeros=st.integers(0, 40))
def test_streams_in_one_file_are_one_content(
    name: str, parts: list[bytes], zeros: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The content of concatenated streams, with zeros between and after them, is their contents in order."""
    data = b"".join(COMPRESS[name](part) + bytes(zeros) for part in parts)
    path = tmp_path_factory.getbasetemp() / "parts"
    assert content_of(path, data, name) == b"".join(parts)


@pytest.mark.parametrize(("name", "program"), PROGRAMS)
def test_files_of_the_usual_programs_are_read(name: str, program: str, tmp_path: Path) -> None:
    """The output of gzip, bzip2, xz and zstd is recognised and read back, with their highest compression, too."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for options in ([], ["-9"]):
        data = subprocess.run([program, "-c", *options], input=CONTENT, capture_output=True, check=True).stdout
        found = recognise(data)
        assert found is not None
        assert found.name == name
        assert content_of(tmp_path / "file", data, name) == CONTENT


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_are_bounded(name: str, tmp_path: Path) -> None:
    """However well the data are compressed, a block has at most BLOCK_BYTES, and none is empty before the end."""
    content = bytes(50 * BLOCK_BYTES + 1)
    with opened(tmp_path / "file", COMPRESS[name](content), name) as stream:
        sizes = [len(block) for block in iter(stream.read_block, b"")]
        assert stream.read_block() == b""
    assert sum(sizes) == len(content)
    assert max(sizes) <= BLOCK_BYTES


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_cut_off_data_are_noticed(name: str, cut: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Data that end early raise, wherever that is, after the content before."""
    content = CONTENT[:2000]
    data = COMPRESS[name](content)
    path = tmp_path_factory.getbasetemp() / "cut"
    with pytest.raises(DamagedHead, match="are cut off"):
        content_of(path, data[: int(cut * len(data))], name)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_no_wrong_content_passes(name: str, at: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a changed byte anywhere the data raise, or the content is right: some bytes of the headers mean nothing."""
    content = CONTENT[:2000]
    data = bytearray(COMPRESS[name](content))
    data[at % len(data)] ^= flip
    path = tmp_path_factory.getbasetemp() / "changed"
    try:
        found = content_of(path, bytes(data), name)
    except DamagedHead:
        return
    assert found == content


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rest", [b"x", bytes(100) + b"some text after the end"])
def test_other_bytes_after_the_end_are_noticed(name: str, rest: bytes, tmp_path: Path) -> None:
    """Bytes that are no further stream raise after the whole content was returned."""
    with opened(tmp_path / "file", COMPRESS[name](CONTENT) + rest, name) as stream:
        content: list[bytes] = []
        with pytest.raises(DamagedHead, match="damaged: other bytes follow its "):
            content.extend(iter(stream.read_block, b""))
    assert b"".join(content) == CONTENT


@pytest.mark.parametrize("name", FORMATS)
def test_a_bomb_ends(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content beyond the bounds of size and ratio raises; smaller content with this ratio does not."""
    monkeypatch.setattr(compressed, "RATIO_FROM_BYTES", 2**21)
    monkeypatch.setattr(compressed, "MOST_RATIO", 100)
    assert len(content_of(tmp_path / "small", COMPRESS[name](bytes(2**21)), name)) == 2**21
    with pytest.raises(DamagedHead, match="more than 100 times its size"):
        content_of(tmp_path / "bomb", COMPRESS[name](bytes(2**24)), name)


def test_a_stream_that_demands_much_memory_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary or window above the limit raises with the limit as the reason."""
    large_window: dict[int, int] = {
        zstd.CompressionParameter.window_log: 22,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=large_window)  # all at once, it knows that less suffices
    streams = {
        "a zstd file": compressor.compress(CONTENT) + compressor.flush(),
        "an xz file": lzma.compress(CONTENT, preset=6),
    }
    for name, data in streams.items():
        assert content_of(tmp_path / "file", data, name) == CONTENT
    monkeypatch.setattr(compressed, "DECOMPRESSOR_BYTES", 2**21)
    for name, data in streams.items():
        with pytest.raises(DamagedHead, match="need more than 2MiB of memory"):
            content_of(tmp_path / "file", data, name)


def test_without_the_extra_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zstd file is a failure that names the extra, if no library for it is installed."""
    module = "compression" if sys.version_info >= (3, 14) else "backports"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DamagedHead, match=r"pip install backports.zstd"):
        CompressedStream(io.BytesIO().read, COMPRESSIONS["a zstd file"])
