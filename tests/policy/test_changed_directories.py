"""Which batches are verified before they are sent."""

from __future__ import annotations

import pytest

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.policy.changed_directories import CLEAN_LOOKS, MOST_DIRECTORIES, ChangedDirectories
from tests.archives import header


def batch(*locations: str) -> Batch:
    """Return a batch of files."""
    return Batch(1, tuple(Instance(Candidate(where, 1, 0), header(n)) for n, where in enumerate(locations)))


@pytest.mark.parametrize(
    ("lost", "location", "expected"),
    [
        ("/a/b", "/a/b/1", True),
        ("/a/b", "/a/b/c/1", True),
        ("/a/b", "/a/bc/1", False),
        ("/a/b", "/a/1", False),
        ("/", "/a/b/1", True),
        ("", "a/1", True),
    ],
)
def test_batches_below_a_change_are_verified(lost: str, location: str, expected: bool) -> None:
    """A directory's whole tree is verified, and nothing beside it."""
    changed_directories = ChangedDirectories()
    assert not changed_directories.touches(batch(location))
    changed_directories.lost([lost])
    assert changed_directories.touches(batch("/elsewhere/0", location)) is expected


def test_verification_ends_when_nothing_changes() -> None:
    """After some unchanged batches in a row verification ends; another change starts it again."""
    changed_directories, one = ChangedDirectories(), batch("/a/1")
    changed_directories.lost(["/a"])
    for _ in range(CLEAN_LOOKS - 1):
        changed_directories.unharmed(one)
    changed_directories.unharmed(batch("/b/1"))
    assert changed_directories.touches(one)
    changed_directories.lost(["/a"])
    for _ in range(CLEAN_LOOKS - 1):
        changed_directories.unharmed(one)
    assert changed_directories.touches(one)
    changed_directories.unharmed(one)
    assert not changed_directories.touches(one)


@pytest.mark.parametrize(
    ("first", "second", "location", "expected"),
    [
        ("/a/s1", "/a/s2", "/a/s3/1", True),
        ("/a/s1/x", "/a/s2/x", "/a/s3/x/1", True),
        ("/a/s1", "/a/s2", "/b/1", False),
        ("/a/s1", "a/s2", "/b/1", True),
        ("/a/s1", "/a/s1", "/a/s3/1", False),
    ],
)
def test_changes_in_two_directories_count_for_their_parent(
    first: str, second: str, location: str, expected: bool
) -> None:
    """A share that fails costs two requests, not one for each of its directories."""
    changed_directories = ChangedDirectories()
    changed_directories.lost([first])
    changed_directories.lost([second])
    assert changed_directories.touches(batch(location)) is expected


def test_the_number_of_directories_is_bounded() -> None:
    """Of too many directories the oldest are forgotten."""
    changed_directories = ChangedDirectories()
    for number in range(MOST_DIRECTORIES + 1):
        changed_directories.lost([f"/{number}/x", f"/{number}/x"])
        changed_directories.lost([f"/{number}/x"])
    for _ in range(CLEAN_LOOKS):
        changed_directories.unharmed(batch("/elsewhere/1"))
    assert not changed_directories.touches(batch("/0/x/1"))
    assert changed_directories.touches(batch(f"/{MOST_DIRECTORIES}/x/1"))
