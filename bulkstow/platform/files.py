"""Open files and read them at an offset, with pread(2) and preadv(2) where the system has them.

`os.open` makes every descriptor close-on-exec by itself (PEP 446), so no flag is needed for that.
"""

from __future__ import annotations

import os
import select
import threading

_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)

_position_locks: dict[int, threading.Lock] = {}
"""One for each descriptor that was read without pread(2), so that a read that hangs delays no other file."""


def open_to_read(path: str, *, follow_link: bool = True) -> int:
    """Open a file and return its descriptor. Raises OSError, with ELOOP for a link that is not to be followed."""
    return os.open(path, _READ_ONLY if follow_link else _READ_ONLY | _NO_FOLLOW)


def open_own(path: str) -> int:
    """Open a file of this user for reading without a change of its access time. Raises OSError."""
    return os.open(path, _READ_ONLY | _NO_ACCESS_TIME)


def read_at(descriptor: int, size_bytes: int, offset: int) -> bytes:
    """Read at an offset; return fewer bytes at the end of the file, or where the system returns fewer.

    Without pread(2) the descriptor's position moves, so nothing else may use that.
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, size_bytes, offset)
    with _position_locks.setdefault(descriptor, threading.Lock()):
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size_bytes)


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Read into memory at an offset, as `read_at` does; return how many bytes."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    data = read_at(descriptor, len(view), offset)
    view[: len(data)] = data
    return len(data)


def wait_readable(descriptor: int, timeout_s: float) -> bool:
    """Wait until a pipe, terminal or file can be read or has ended; return False after `timeout_s`.

    Returns True where the system cannot wait for this kind of descriptor (pipes on Windows): reading it waits then.
    """
    if hasattr(select, "poll"):  # unlike select(2), it takes descriptors above 1023
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    except (OSError, ValueError):
        return True


def write_at(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all bytes at an offset, as `read_at` reads them. Raises OSError."""
    with memoryview(data).cast("B") as view:
        written = 0
        while written < len(view):
            if hasattr(os, "pwrite"):
                written += os.pwrite(descriptor, view[written:], offset + written)
                continue
            with _position_locks.setdefault(descriptor, threading.Lock()):
                os.lseek(descriptor, offset + written, os.SEEK_SET)
                written += os.write(descriptor, view[written:])


def anonymous_memory(name: str) -> int | None:
    """Return the descriptor of an empty file in memory (Linux only; otherwise None). Raises OSError."""
    return os.memfd_create(name) if hasattr(os, "memfd_create") else None


def path_of_descriptor(descriptor: int) -> str:
    """Return a path by which a descriptor of this process can be opened again, in Linux also by other processes."""
    path = f"/proc/{os.getpid()}/fd/{descriptor}"
    return path if os.path.lexists(path) else f"/dev/fd/{descriptor}"


def listed_mounts() -> str:
    """Return the mounts of this computer as Linux lists them; empty on other systems. Blocks."""
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:  # noqa: PTH123 - `Path` is not needed here
            return file.read()
    except OSError:
        return ""
