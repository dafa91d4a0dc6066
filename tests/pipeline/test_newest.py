"""The newest file of each SOP Instance UID."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from bulkstow.model import Candidate, Instance
from bulkstow.pipeline.newest import NewestFiles
from tests.archives import header


@pytest.fixture
def newest() -> Iterator[NewestFiles]:
    """Give an empty collection."""
    with closing(NewestFiles()) as files:
        yield files


def instance(uid: int, path: str, version: int, *, by_link: bool = False) -> Instance:
    """Return an instance."""
    return Instance(Candidate(path, 100, version, by_link), header(uid))


def test_all_instances_are_returned_unchanged(newest: NewestFiles) -> None:
    """In their order, in lists, with names that are not UTF-8, times of any year, and whether a link led to them."""
    odd = os.fsdecode(b"/\xff")
    instances = [instance(n % 3, f"/{n}", n) for n in range(5)]
    instances += [instance(4, odd, 10**20), instance(5, "/link", -(10**20), by_link=True)]
    assert newest.add(instances[:4]) == []
    assert newest.add(instances[4:]) == []
    newest.index()
    lists = list(newest.lists(3))
    assert [len(several) for several in lists] == [3, 3, 1]
    back = [i for several in lists for i in several]
    assert back == instances
    assert [i.candidate.by_link for i in back] == [False] * 6 + [True]


def test_a_path_is_kept_once(newest: NewestFiles) -> None:
    """Files that are added again by the same path are returned."""
    assert newest.add([instance(1, "/a", 1), instance(1, "/a", 1)]) == [Candidate("/a", 100, 1)]
    assert newest.add([instance(2, "/b", 1), instance(1, "/a", 7)]) == [Candidate("/a", 100, 7)]
    newest.index()
    assert list(newest.lists()) == [[instance(1, "/a", 1), instance(2, "/b", 1)]]


@pytest.mark.parametrize(
    ("times_ns", "expected"),
    [((1, 3, 2), 1), ((3, 3, 2), 0), ((10**20, 10**20 + 1, 5), 1), ((-(10**20), -(10**20) + 1, -(10**21)), 1)],
    ids=["later", "equal", "far away", "long ago"],
)
def test_the_newest_of_each_uid(newest: NewestFiles, times_ns: tuple[int, ...], expected: int) -> None:
    """The latest time wins, of equal ones the first file, independent of other instances."""
    files = [instance(1, f"/{number}", time_ns) for number, time_ns in enumerate(times_ns)]
    newest.add([instance(2, "/other", 10**22), *files])
    newest.index()
    assert newest.newest(header(1).sop_instance_uid) == files[expected]


def test_versions_that_are_no_times_leave_the_order_of_the_scan(newest: NewestFiles) -> None:
    """Of files with texts as versions the first one counts as the newest; they come back unchanged."""
    texts = [Instance(Candidate(f"s3://{text}", 100, text), header(1)) for text in ("9", "10", "011")]
    newest.add(texts)
    newest.index()
    assert newest.newest(header(1).sop_instance_uid) == texts[0]
    assert list(newest.lists()) == [texts]
