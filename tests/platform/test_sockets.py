"""Claims about sockets on systems with and without sendfile(2), poll(2) and counters of a connection."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bulkstow.platform.sockets import can_send_files, congestion_times, send_file, wait_writable


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two connected TCP sockets; the first does not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.settimeout(0)
    with near, far:
        yield near, far


def test_a_part_of_a_file_is_sent(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    """The part begins at the offset and has the given size."""
    near, far = pair
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        assert send_file(near, file.fileno(), 2, 5) == 5
    assert far.recv(100) == b"23456"


def test_a_system_without_sendfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers ask before they send."""
    assert can_send_files()
    monkeypatch.delattr(os, "sendfile")
    assert not can_send_files()


@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "select"])
def test_a_full_socket_is_waited_for(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, *, has_poll: bool
) -> None:
    """It is writable until its buffers are full, and again when the peer has closed it."""
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    near, far = pair
    assert wait_writable(near, 0)
    with suppress(BlockingIOError):
        while near.send(bytes(2**20)):
            pass
    assert not wait_writable(near, 0)
    far.close()
    assert wait_writable(near, 10)


def test_what_the_kernel_counts(pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection has times; a closed one has None, and so has every one on a system that does not count."""
    near, _ = pair
    assert congestion_times(near) is not None
    near.close()
    assert congestion_times(near) is None
    monkeypatch.delattr(socket, "TCP_INFO")
    assert congestion_times(near) is None


def test_the_kernel_counts_in_microseconds(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two counters of `struct tcp_info` are returned in seconds."""
    info = bytes(168) + b"".join(time_us.to_bytes(8, sys.byteorder) for time_us in (1_500_000, 250_000))
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: info, raising=False)
    assert congestion_times(pair[0]) == (1.5, 0.25)
