"""A view of a directory that answers late: what an archive on a busy file server is to who reads it.

    python -m benchmarks.slowed DIRECTORY MOUNT --stat-ms 5 --open-ms 5 --read-ms 5

Owns a read-only FUSE file system over the directory, and how long each of its calls takes; any number of them wait at
the same time. The kernel caches and reads ahead as it does for a network file system: a page that was read, and
attributes that were asked for, are not asked for again until the view is mounted anew. It says `MOUNTED` when it is
there, and when it has been unmounted, what it was asked, as one JSON object. Wants mfusepy and fuse3.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

AT_ONCE = 64
"""Threads that wait, and reads that the kernel lets wait (12, if it is not told): above what any peer asks at once."""

READDIRPLUS = 1 << 13 | 1 << 14
"""FUSE_CAP_READDIRPLUS and FUSE_CAP_READDIRPLUS_AUTO: with them libfuse itself asks for the attributes of a directory's
entries, one after the other, when the directory is listed."""

REMEMBERED_S = 60.0
"""Of names and attributes in the kernel: NFS keeps those of files for 3 to 60 s, of directories for 30 to 60 s."""

CALLS = ("stat", "open", "read", "hang")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long calls take; what is not named takes no time."""

    stat_s: float = 0.0
    """Of a name that is looked up; 0 is a server that tells them with the directory (READDIRPLUS)."""
    open_s: float = 0.0
    read_s: float = 0.0
    """Of each request of the kernel, which is for up to 128 KiB."""
    hang_s: float = 0.0
    hang_every: int = 0
    """Of so many stats, opens or reads one takes `hang_s`; 0 is none."""

    def of(self, call: str, number: int) -> float:
        """Return the seconds of the `number`th call of this sort."""
        match call:
            case "stat" | "open" | "read" if self.hang_every and number % self.hang_every == 0:
                return self.hang_s
            case "stat":
                return self.stat_s
            case "open":
                return self.open_s
            case "read":
                return self.read_s
            case _:
                return 0.0


@dataclass(slots=True)
class Log:
    """What was asked."""

    calls: Counter[str] = field(default_factory=Counter)
    waited_s: dict[str, float] = field(default_factory=dict)
    """Added up over calls, those too that waited side by side."""
    most_at_once: int = 0


class Connection(Protocol):
    """What the kernel and libfuse agree upon."""

    max_background: int
    congestion_threshold: int
    want: int


class Slowed:
    """The file system, as mfusepy wants it; its methods are called from many threads."""

    use_ns = True

    def __init__(self, directory: str, latency: Latency) -> None:
        self.log = Log()
        self._directory = directory
        self._latency = latency
        self._mutex = Lock()
        self._waiting = 0

    def init_with_config(self, connection: Connection, _config: object) -> None:
        """Let the kernel ask as much at once as there are threads to wait."""
        connection.max_background = connection.congestion_threshold = AT_ONCE
        if self._latency.stat_s:
            connection.want &= ~READDIRPLUS
        print("MOUNTED", flush=True)

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        """Tell what a name is; late."""
        self._wait("stat")
        found = os.lstat(self._directory + path)
        told = {name: getattr(found, name) for name in ("st_mode", "st_size", "st_nlink", "st_ino")}
        return {**told, "st_mtime": found.st_mtime_ns}

    def readdir(self, path: str, _handle: int) -> list[str]:
        """List a directory."""
        self._wait("list")
        return [".", "..", *os.listdir(self._directory + path)]  # noqa: PTH208

    def open(self, path: str, _flags: int) -> int:
        """Open a file; late."""
        self._wait("open")
        return os.open(self._directory + path, os.O_RDONLY)

    def read(self, _path: str, size_bytes: int, offset_bytes: int, handle: int) -> bytes:
        """Read from a file; late."""
        self._wait("read")
        return os.pread(handle, size_bytes, offset_bytes)

    def release(self, _path: str, handle: int) -> int:
        """Close a file."""
        os.close(handle)
        return 0

    def _wait(self, call: str) -> None:
        log = self.log
        with self._mutex:
            log.calls[call] += 1
            latency_s = self._latency.of(call, log.calls[call])
            log.waited_s[call] = log.waited_s.get(call, 0.0) + latency_s
            self._waiting += 1
            log.most_at_once = max(log.most_at_once, self._waiting)
        time.sleep(latency_s)
        with self._mutex:
            self._waiting -= 1


def main() -> None:
    """Serve until the view is unmounted."""
    import mfusepy

    parser = argparse.ArgumentParser(prog="python -m benchmarks.slowed", description=__doc__.partition("\n")[0])
    parser.add_argument("directory")
    parser.add_argument("mount")
    for call in CALLS:
        parser.add_argument(f"--{call}-ms", type=float, default=0.0)
    parser.add_argument("--hang-every", type=int, default=0, help="calls from one that hangs to the next")
    options = parser.parse_args()
    stat_s, open_s, read_s, hang_s = (getattr(options, f"{call}_ms") / 1000 for call in CALLS)
    view = Slowed(options.directory, Latency(stat_s, open_s, read_s, hang_s, options.hang_every))
    log = view.log
    mfusepy.FUSE(
        view,
        options.mount,
        foreground=True,
        ro=True,
        kernel_cache=True,
        entry_timeout=REMEMBERED_S,
        attr_timeout=REMEMBERED_S,
        max_threads=AT_ONCE,
        max_idle_threads=AT_ONCE,
        clone_fd=True,
    )
    print(json.dumps({"calls": log.calls, "waited_s": log.waited_s, "most_at_once": log.most_at_once}), flush=True)


if __name__ == "__main__":
    main()
