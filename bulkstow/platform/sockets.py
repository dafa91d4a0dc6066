"""Send files from the page cache to a socket, wait for a socket, and read the kernel's times of a connection."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

MORE_FOLLOWS = getattr(socket, "MSG_MORE", 0)
"""For `send`: more follows at once, so the kernel need not send a packet of its own for 120 bytes of framing."""

_TCP_INFO_BYTES = 184
_BUSY_AT = 168
"""`tcpi_busy_time` and `tcpi_rwnd_limited` in Linux's `struct tcp_info`, since 4.10."""


def can_send_files() -> bool:
    """Return whether `send_file` works on this system; on Windows it does not."""
    return hasattr(os, "sendfile")


def send_file(handle: socket.socket, descriptor: int, offset: int, size_bytes: int) -> int:
    """Send a part of a file from the page cache, as sendfile(2) does; return how many bytes.

    Raises OSError, also for a file system that cannot do it (some of FUSE's).
    """
    return os.sendfile(handle.fileno(), descriptor, offset, size_bytes)


def wait_writable(handle: socket.socket, timeout_s: float) -> bool:
    """Wait until a socket takes bytes or is lost; return False after `timeout_s`, or where the system cannot wait."""
    if hasattr(select, "poll"):  # unlike select(2), it takes descriptors above 1023
        poll = select.poll()
        poll.register(handle.fileno(), select.POLLOUT)
        return bool(poll.poll(timeout_s * 1000))
    try:
        return bool(select.select([], [handle], [], timeout_s)[1])
    except ValueError:
        return False


def congestion_times(connection: socket.socket) -> tuple[float, float] | None:
    """Return for how many seconds a connection had bytes on their way, and of that waited for the receiver's window.

    None where the system does not count them, or the connection is closed or not TCP.
    """
    if sys.platform != "linux" or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    if len(info) < _TCP_INFO_BYTES:
        return None
    busy_us, receive_window_us = struct.unpack_from("=QQ", info, _BUSY_AT)
    return busy_us / 1e6, receive_window_us / 1e6
