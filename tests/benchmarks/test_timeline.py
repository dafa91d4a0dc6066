from __future__ import annotations

import pytest

from benchmarks.processes import PeerFailed
from benchmarks.timeline import Moment, first_byte_s, settled, whole


def moments(*rows: tuple[float, int, int, int]) -> list[Moment]:
    """Moments from (time, instances, requests, rejected); an instance has a body of 100 bytes."""
    return [
        Moment(at_s, instances, 100 * instances, requests, rejected) for at_s, instances, requests, rejected in rows
    ]


RUN = moments(
    (0.0, 5, 1, 1),  # of a run before: counts are the sink's, from its start
    (1.0, 5, 1, 1),
    (2.0, 15, 3, 2),
    (3.0, 25, 6, 4),
    (4.0, 45, 8, 4),
    (5.0, 65, 10, 5),
    (6.0, 75, 10, 5),
    (7.0, 75, 10, 5),
)


def test_the_whole_is_from_the_first_byte_to_the_last_instance() -> None:
    """What came before the run, and the time before and after it, does not count."""
    found = whole(RUN)
    assert (found.duration_s, found.instances, found.body_bytes) == (5.0, 70, 7000)
    assert (found.instances_per_s, found.bytes_per_s) == (14.0, 1400.0)


def test_settled_is_from_half_of_the_time_until_the_last_request_began() -> None:
    """The search at the beginning and the draining at the end are left out, and rejections then with them."""
    found = settled(RUN)
    assert (found.duration_s, found.instances) == (2.0, 40)
    assert found.rejected_share == 1 / 4


def test_a_run_that_rejects_nothing_has_no_share() -> None:
    """A stretch in which no request began divides by nothing."""
    found = settled(moments((0.0, 0, 0, 0), (1.0, 0, 2, 0), (2.0, 10, 2, 0), (3.0, 20, 2, 0)))
    assert found.rejected_share == 0.0


@pytest.mark.parametrize("rows", [[(0.0, 0, 0, 0)], [(0.0, 0, 0, 0), (1.0, 0, 0, 0)]])
def test_a_run_that_nobody_saw_says_so(rows: list[tuple[float, int, int, int]]) -> None:
    """Where nothing was taken between two looks there is no figure, and no division by zero."""
    with pytest.raises(PeerFailed, match="--scale"):
        settled(moments(*rows))


def test_the_first_byte_is_seen_when_it_has_come() -> None:
    """What the sink had before the run is no byte of the run's; that none came is told."""
    assert first_byte_s(RUN) == 2.0
    with pytest.raises(PeerFailed):
        first_byte_s(RUN[:2])
