"""Files that stay open: how many, for how long, and that each is closed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bulkstow.source import open_files
from bulkstow.source.open_files import OpenFiles


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], int]:
    """Give a function that opens a file."""
    (tmp_path / "file").touch()
    return lambda: os.open(tmp_path / "file", os.O_RDONLY)


def is_open(descriptor: int) -> bool:
    """Return whether a descriptor is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_kept_file_is_taken_once(opened: Callable[[], int]) -> None:
    """It belongs to the first caller that takes it; a file that was not kept is not there."""
    files = OpenFiles(2)
    descriptor = opened()
    files.keep("a", descriptor)
    assert files.take("b") is None
    assert files.take("a") == descriptor
    assert is_open(descriptor)
    assert files.take("a") is None
    os.close(descriptor)


def test_files_above_the_limit_are_closed(opened: Callable[[], int]) -> None:
    """The files that were kept first stay; so does the first of two of one location."""
    files = OpenFiles(2)
    descriptors = [opened() for _ in range(4)]
    for location, descriptor in zip("aabc", descriptors, strict=True):
        files.keep(location, descriptor)
    assert [is_open(descriptor) for descriptor in descriptors] == [True, False, True, False]
    files.close()
    assert not any(map(is_open, descriptors))


def test_old_files_are_closed(opened: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was kept for long is opened anew, and gives its place to another one."""
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    files = OpenFiles(2)
    old, second, third = opened(), opened(), opened()
    files.keep("old", old)
    files.keep("second", second)
    now_s += open_files.KEPT_S / 2
    assert files.take("second") == second
    files.keep("second", second)
    now_s += open_files.KEPT_S / 2
    files.keep("third", third)
    assert [is_open(descriptor) for descriptor in (old, second, third)] == [False, True, True]
    now_s += open_files.KEPT_S
    assert files.take("third") is None
    assert not is_open(third)
    files.close()


def test_nothing_is_kept_after_the_end(opened: Callable[[], int]) -> None:
    """A thread that hung until the run was over leaves no file open."""
    files = OpenFiles(2)
    files.close()
    descriptor = opened()
    files.keep("a", descriptor)
    assert not is_open(descriptor)
