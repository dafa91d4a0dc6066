"""Claims about opening and reading files at an offset, on systems with and without pread(2), preadv(2) and poll(2)."""

from __future__ import annotations

import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bulkstow.platform.files import open_to_read, read_at, read_into, wait_readable


@pytest.fixture(params=["preadv", "pread", "lseek"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"preadv": (), "pread": ("preadv",), "lseek": ("preadv", "pread")}[request.param]
    for name in missing:
        monkeypatch.delattr(os, name)


@pytest.mark.usefixtures("_system")
def test_bytes_come_from_the_offset_whatever_was_read_before(tmp_path: Path) -> None:
    """Reads may go back, reach past the end, or begin there."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789\r\n\x1a")
    descriptor = open_to_read(str(path))
    view = memoryview(bytearray(4))
    assert read_at(descriptor, 3, 4) == b"456"
    assert read_at(descriptor, 100, 8) == b"89\r\n\x1a"
    assert read_at(descriptor, 1, 13) == b""
    assert (read_into(descriptor, view, 0), bytes(view)) == (4, b"0123")
    assert (read_into(descriptor, view, 11), bytes(view)) == (2, b"\n\x1a23")
    assert read_into(descriptor, view, 13) == 0
    os.close(descriptor)


@pytest.mark.usefixtures("_system")
def test_threads_may_share_a_descriptor(tmp_path: Path) -> None:
    """Each thread gets the bytes of its own offset."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    descriptor = open_to_read(str(path))
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda at: read_at(descriptor, 1, at % 256), range(2048)))
    os.close(descriptor)
    assert b"".join(read) == bytes(range(256)) * 8


def test_a_read_that_hangs_delays_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pread(2) only reads of the same descriptor wait for each other."""
    monkeypatch.delattr(os, "pread")
    (tmp_path / "slow").write_bytes(b"slow")
    (tmp_path / "fast").write_bytes(b"fast")
    slow, fast = (open_to_read(str(tmp_path / name)) for name in ("slow", "fast"))
    hangs, may_end = threading.Event(), threading.Event()
    read = os.read

    def read_slowly(descriptor: int, size_bytes: int) -> bytes:
        if descriptor == slow:
            hangs.set()
            may_end.wait()
        return read(descriptor, size_bytes)

    monkeypatch.setattr(os, "read", read_slowly)
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(read_at, slow, 4, 0)
        hangs.wait()
        assert read_at(fast, 4, 0) == b"fast"
        may_end.set()
        assert hanging.result() == b"slow"
    os.close(slow)
    os.close(fast)


def test_a_link_is_followed_only_on_request(tmp_path: Path) -> None:
    """The system refuses to open a link that must not be followed."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.close(open_to_read(str(tmp_path / "link")))
    with pytest.raises(OSError, match="symbolic links"):
        open_to_read(str(tmp_path / "link"), follow_link=False)


def test_a_descriptor_is_not_inherited(tmp_path: Path) -> None:
    """A program that is started meanwhile does not get the file."""
    (tmp_path / "file").touch()
    descriptor = open_to_read(str(tmp_path / "file"))
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "select"])
def test_a_pipe_is_waited_for(monkeypatch: pytest.MonkeyPatch, *, has_poll: bool) -> None:
    """It is readable once it holds bytes, and when its writer has closed it."""
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    reader, writer = os.pipe()
    assert not wait_readable(reader, 0)
    os.write(writer, b"x")
    assert wait_readable(reader, 10)
    os.read(reader, 1)
    os.close(writer)
    assert wait_readable(reader, 10)
    os.close(reader)


def test_a_system_that_cannot_wait_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller reads, and waits in there."""

    def refuse(*_: object) -> None:
        raise OSError(10038, "not a socket")

    monkeypatch.delattr(select, "poll")
    monkeypatch.setattr(select, "select", refuse)
    assert wait_readable(0, 0)
