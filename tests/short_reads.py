"""Reads that return less than asked for, as FUSE and network file systems do."""

from __future__ import annotations

import os

import pytest


def shorten_reads(monkeypatch: pytest.MonkeyPatch, longest_bytes: int) -> None:
    """Let each system call that reads a file return so many bytes at most."""
    read, pread, preadv = os.read, os.pread, os.preadv
    monkeypatch.setattr(os, "read", lambda file, count: read(file, min(count, longest_bytes)))
    monkeypatch.setattr(os, "pread", lambda file, count, at: pread(file, min(count, longest_bytes), at))
    monkeypatch.setattr(os, "preadv", lambda file, views, at: preadv(file, [views[0][:longest_bytes]], at))
    if hasattr(os, "sendfile"):
        sendfile = os.sendfile
        monkeypatch.setattr(
            os, "sendfile", lambda out, file, at, count: sendfile(out, file, at, min(count, longest_bytes))
        )
