"""The state of a study, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.study_state import Evidence, StudyState, judge_count, judge_study, unknown_study


@dataclass(frozen=True)
class Case:
    """Letters are instances."""

    expected: str
    listed: str
    tolerated: str = ""
    different: str = ""
    not_compared: str = ""

    def evidence(self) -> Evidence:
        """Return the case as evidence."""
        return Evidence(
            expected=frozenset(self.expected),
            tolerated=frozenset(self.tolerated),
            listed=frozenset(self.listed),
            different=dict.fromkeys(self.different, "(0010,0010) PatientName"),
            not_compared=dict.fromkeys(self.not_compared, "no decoder"),
        )


CASES = [
    (Case("abc", "abc"), StudyState.COMPLETE, 3, "", "", ""),
    (Case("abc", "ab"), StudyState.INCOMPLETE, 2, "c", "", ""),
    (Case("abc", ""), StudyState.ABSENT, 0, "abc", "", ""),
    (Case("abc", "d"), StudyState.ABSENT, 0, "abc", "", "d"),
    (Case("abc", "abcd"), StudyState.EXTRA, 3, "", "", "d"),
    (Case("abc", "abd"), StudyState.INCOMPLETE, 2, "c", "", "d"),
    (Case("abc", "abcd", tolerated="de"), StudyState.COMPLETE, 3, "", "", ""),
    (Case("abc", "abc", different="b"), StudyState.DIFFERENT, 3, "", "b", ""),
    (Case("abc", "abcd", different="b"), StudyState.DIFFERENT, 3, "", "b", "d"),
    (Case("abc", "ab", different="b"), StudyState.INCOMPLETE, 2, "c", "b", ""),
    (Case("abc", "abc", different="b", not_compared="c"), StudyState.DIFFERENT, 3, "", "b", ""),
    (Case("abc", "abc", not_compared="c"), StudyState.UNKNOWN, 3, "", "", ""),
    (Case("abc", "ab", different="c", not_compared="c"), StudyState.INCOMPLETE, 2, "c", "", ""),
]


@pytest.mark.parametrize(("case", "state", "found", "missing", "different", "extra"), CASES)
def test_what_the_list_of_a_study_says(
    case: Case, state: StudyState, found: int, missing: str, different: str, extra: str
) -> None:
    """The worst finding is the state; all findings are in the result."""
    result = judge_study("1.2", case.evidence())
    assert (result.state, result.found, result.expected) == (state, found, 3)
    assert (result.missing, result.different, result.extra) == (tuple(missing), tuple(different), tuple(extra))


@pytest.mark.parametrize(
    ("expected", "tolerated", "count", "state", "found"),
    [
        (3, 0, 3, StudyState.COMPLETE, 3),
        (3, 0, 2, StudyState.INCOMPLETE, 2),
        (3, 0, 0, StudyState.ABSENT, 0),
        (3, 0, 4, StudyState.EXTRA, 3),
        (3, 1, 4, StudyState.COMPLETE, 3),
        (3, 1, 5, StudyState.EXTRA, 3),
    ],
)
def test_what_a_count_says(expected: int, tolerated: int, count: int, state: StudyState, found: int) -> None:
    """A count names no instance."""
    result = judge_count("1.2", expected, tolerated, count)
    assert (result.state, result.found, result.missing, result.extra) == (state, found, (), ())


def test_a_study_that_could_not_be_asked_for_is_not_missing() -> None:
    """Its state is unknown, and nothing is called missing."""
    result = unknown_study("1.2", 3, "HTTP 500")
    assert (result.state, result.found, result.missing) == (StudyState.UNKNOWN, None, ())
    assert not result.state.is_complete


UIDS = st.frozensets(st.sampled_from("abcdef"))


@given(UIDS.filter(bool), UIDS, UIDS)
def test_complete_means_that_everything_is_there(
    expected: frozenset[str], tolerated: frozenset[str], listed: frozenset[str]
) -> None:
    """A study is complete exactly if each expected instance is listed; missing and extra are disjoint."""
    result = judge_study("1.2", Evidence(expected=expected, tolerated=tolerated - expected, listed=listed))
    assert result.state.is_complete == (expected <= listed)
    assert set(result.missing) | (expected & listed) == expected
    assert set(result.extra).isdisjoint(expected | tolerated)


def test_the_reason_of_a_study_is_bounded() -> None:
    """A few differences are named, the others are counted."""
    uids = [f"1.{number}" for number in range(10)]
    evidence = Evidence(expected=frozenset(uids), listed=frozenset(uids), different=dict.fromkeys(uids, "(0008,0060)"))
    reason = judge_study("1", evidence).reason
    assert reason == "1.0: (0008,0060); 1.1: (0008,0060); 1.2: (0008,0060); and 7 more"
