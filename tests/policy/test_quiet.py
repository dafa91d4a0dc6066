"""When a watched file may be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import Candidate
from bulkstow.policy.quiet import MOST_RESCAN_S, Quiet, rescan_pause_s

QUIET_S = 10.0
NOW_NS = 1_800_000_000 * 10**9


def file(path: str = "/in/a", *, age_s: float = 0.0, size_bytes: int = 100) -> Candidate:
    """Return a file that was modified some time before NOW_NS."""
    return Candidate(path, size_bytes, NOW_NS - int(age_s * 1e9))


@pytest.mark.parametrize(("age_s", "is_admitted"), [(11, True), (10, True), (9.9, False), (0, False), (-3600, False)])
def test_a_file_that_a_scan_finds_is_read_if_its_time_is_old_enough(age_s: float, *, is_admitted: bool) -> None:
    """A time in the future is as young as can be."""
    quiet = Quiet(QUIET_S)
    assert quiet.admit(file(age_s=age_s), 0.0, NOW_NS) is is_admitted
    assert quiet.pending == (not is_admitted)


def test_a_young_file_waits_for_the_rest_of_its_time() -> None:
    """Modified 4 s ago, it may be read in 6 s."""
    quiet = Quiet(QUIET_S)
    quiet.admit(file(age_s=4), 100.0, NOW_NS)
    assert quiet.next_s() == 106.0
    assert quiet.take_due(105.9) == []
    assert quiet.take_due(106.0) == ["/in/a"]
    assert quiet.admit(file(age_s=4), 106.0, NOW_NS)


def test_a_file_with_a_time_in_the_future_is_read_once_it_has_stayed_the_same() -> None:
    """The clock of a modality that is an hour fast delays nothing for an hour."""
    quiet, found = Quiet(QUIET_S), file(age_s=-3600)
    quiet.admit(found, 0.0, NOW_NS)
    assert quiet.take_due(10.0) == ["/in/a"]
    assert quiet.admit(found, 10.0, NOW_NS)


def test_a_file_that_is_another_one_when_its_time_has_passed_waits_again() -> None:
    """It grew without an event, as on a file server."""
    quiet = Quiet(QUIET_S)
    quiet.admit(file(age_s=-3600), 0.0, NOW_NS)
    quiet.take_due(10.0)
    assert not quiet.admit(file(age_s=-3600, size_bytes=200), 10.0, NOW_NS)
    assert quiet.next_s() == 20.0


def test_every_event_begins_the_time_anew() -> None:
    """A file that is written in pieces is read after the last one; with the system's events the time is no matter."""
    quiet = Quiet(QUIET_S)
    for now_s in (0.0, 9.0, 18.0):
        quiet.note(["/in/a"], now_s)
        assert quiet.take_due(now_s) == []
    assert not quiet.admit(file(age_s=100), 20.0, NOW_NS)  # a scan meets it meanwhile
    assert quiet.take_due(28.0) == ["/in/a"]
    assert quiet.admit(file(age_s=100), 28.0, NOW_NS)


def test_an_event_during_a_pass_is_for_the_next_pass() -> None:
    """The file is read now, and again when it is quiet."""
    quiet = Quiet(QUIET_S)
    quiet.note(["/in/a"], 0.0)
    quiet.take_due(10.0)
    quiet.note(["/in/a"], 10.5)
    quiet.end_pass()
    assert quiet.take_due(20.5) == ["/in/a"]


def test_a_removed_path_does_not_wait() -> None:
    """The temporary name under which a file was written is forgotten with the rename."""
    quiet = Quiet(QUIET_S)
    quiet.note(["/in/.a.part"], 0.0)
    quiet.forget(["/in/.a.part", "/in/unknown"])
    assert (quiet.pending, quiet.next_s()) == (0, math.inf)


def test_more_paths_than_are_kept_lead_to_a_scan() -> None:
    """Those that wait already keep waiting, the others are found by a scan once the burst has ended."""
    quiet = Quiet(QUIET_S, most=2)
    quiet.note(["/1", "/2", "/3"], 0.0)
    quiet.note(["/4"], 5.0)
    assert quiet.has_lost
    assert not quiet.may_scan(10.0)
    assert quiet.take_due(10.0) == ["/1", "/2"]
    assert quiet.next_s() == 15.0
    assert quiet.may_scan(15.0)
    quiet.begin_scan()
    assert not quiet.has_lost


Happening = tuple[str, str, float]
happenings = st.lists(
    st.tuples(st.sampled_from(["note", "forget", "admit"]), st.sampled_from("abcdef"), st.floats(0, 30)), max_size=40
)


@given(happenings)
def test_no_path_is_lost_in_silence(events: list[Happening]) -> None:
    """At all times a path that was noted last is due, or waits, or a scan is to follow; and memory is bounded."""
    quiet, now_s, noted = Quiet(QUIET_S, most=3), 0.0, set[str]()
    for event, path, later_s in events:
        now_s += later_s
        if event == "note":
            quiet.note([path], now_s)
            noted.add(path)
        elif event == "forget":
            quiet.forget([path])
            noted.discard(path)
        elif quiet.admit(file(path, age_s=0), now_s, NOW_NS):
            noted.discard(path)
        else:
            noted.add(path)
        assert quiet.pending <= 3
    due = set(quiet.take_due(now_s + QUIET_S))
    assert noted == due or (quiet.has_lost and due <= noted)


@pytest.mark.parametrize(
    ("rescan_s", "scan_s", "expected_s"),
    [(60, 0.1, 60), (60, 10, 90), (600, 10, 600), (60, 10_000, MOST_RESCAN_S), (7200, 10_000, 7200)],
)
def test_scans_take_a_tenth_of_the_time_at_most(rescan_s: float, scan_s: float, expected_s: float) -> None:
    """A large source is scanned less often, though at least every hour; the user's interval is the shortest."""
    assert rescan_pause_s(rescan_s, scan_s) == pytest.approx(expected_s)
