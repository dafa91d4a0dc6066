"""Counts of files by study, reason and modality."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import LedgerError
from bulkstow.ledger import Entry
from bulkstow.model import Outcome
from bulkstow.report import aggregate
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.fields import file_fields
from bulkstow.report.rows import LevelRow, OutcomeRow, ReasonRow, StudyCounts, StudyRow
from tests.report.samples import AT_S, URL, archive, entry, header, result


@pytest.fixture
def counts() -> Aggregate:
    """Give the counts of the archive; its database ends with the process."""
    found = Aggregate()
    for one in archive():
        found.add(one)
    return found


def test_studies_with_failures_come_first_then_the_newest(counts: Aggregate) -> None:
    """Each study has its figures; an accepted failure leaves a study complete; files of no study have a row."""
    rows = list(counts.by_study())
    assert [(row.study_uid, row.is_complete) for row in rows] == [
        ("1.2", False),
        ("", False),
        ("1.1", True),
        ("1.3", True),
    ]
    assert rows[0] == StudyRow(
        destination=URL,
        study_uid="1.2",
        modality="MR,SR",
        study_date="20210203",
        files=4,
        size_bytes=4000,
        stored=1,
        failed=1,
        conflicts=1,
        missing=1,
        skipped=0,
        accepted=0,
        verified=0,
        verified_level="",
        first_at_s=AT_S,
        last_at_s=AT_S,
        is_complete=False,
    )
    verified, accepted = rows[2:]
    assert (verified.verified, verified.verified_level) == (3, "instances")
    assert (verified.first_at_s, verified.last_at_s) == (AT_S, AT_S + 2)
    assert (accepted.failed, accepted.accepted, accepted.first_at_s) == (1, 1, None)
    assert [row.study_uid for row in counts.by_study(is_incomplete=True)] == ["1.2", ""]


def test_the_size_is_that_of_what_was_sent() -> None:
    """A DICOMweb server tells no size, and a compressed file is smaller: the bytes that were sent are counted."""
    whole = entry(result("/a", Outcome.STORED, header("1.1", 1)))
    sent = replace(whole.result, candidate=replace(whole.result.candidate, size_bytes=0), sent_bytes=700)
    counts = Aggregate()
    counts.add(replace(whole, result=sent))
    assert [row.size_bytes for row in counts.by_study()] == [700]
    assert file_fields(replace(whole, result=sent))["size_bytes"] == 700


def test_reasons_are_cut_to_what_files_share(counts: Aggregate) -> None:
    """Failures come first, the most frequent first; the reason omits the part about a single file."""
    rows = list(counts.by_reason())
    assert [(row.outcome, row.reason, row.files, row.accepted, row.example) for row in rows] == [
        (Outcome.REFUSED, "HTTP 400 (0xA900)", 2, 1, "/a/2/1"),
        (Outcome.CONFLICT, "the same SOP Instance UID as another file, other bytes", 1, 0, "/a/2/3"),
        (Outcome.MISSING, "not on the server", 1, 0, "/a/2/2"),
        (Outcome.UNREADABLE, "cannot be read", 1, 0, "/a/bad"),
        (Outcome.STORED, "", 3, 0, "/a/1/0"),
        (Outcome.DUPLICATE, "", 1, 0, "/a/3/0"),
        (Outcome.SKIPPED, "not DICOM", 1, 0, "/a/notes"),
        (Outcome.WARNED, "", 1, 0, "/a/2/0"),
    ]
    assert rows[0].studies == 2


def test_the_first_files_of_a_reason_are_known(counts: Aggregate) -> None:
    """Open and accepted failures are apart; each has its whole reason."""
    refused = next(counts.by_reason())
    assert counts.examples(refused, 5, is_accepted=False) == [("/a/2/1", "HTTP 400 (0xA900): no <b>")]
    assert counts.examples(refused, 5, is_accepted=True) == [("/a/3/1", "HTTP 400 (0xA900): no")]
    assert counts.by_note(5) == [("a phantom", Outcome.REFUSED, 1)]


def test_modalities_have_their_outcomes(counts: Aggregate) -> None:
    """The most frequent modality comes first; an unknown one has a row of its own."""
    rows = list(counts.by_modality())
    assert [(row.modality, row.studies, row.files) for row in rows] == [
        (None, 1, 4),
        ("CT", 1, 3),
        ("MR", 1, 3),
        ("SR", 1, 1),
    ]
    assert {outcome: count for outcome, count in rows[2].outcomes.items() if count} == {
        Outcome.WARNED: 1,
        Outcome.REFUSED: 1,
        Outcome.CONFLICT: 1,
    }


def test_the_whole_is_counted(counts: Aggregate) -> None:
    """Outcomes, studies, levels of verification and the period of all files."""
    assert counts.by_outcome()[0] == OutcomeRow(Outcome.STORED, 3, 3000, 1, 0)
    assert [row.outcome for row in counts.by_outcome()] == [outcome for outcome in Outcome if outcome != "unconfirmed"]
    assert counts.count_studies() == StudyCounts(studies=3, complete=2, verified=1)
    assert counts.by_level() == [
        LevelRow("instances", 1, AT_S + 60, AT_S + 60),
        LevelRow("content", 2, AT_S + 61, AT_S + 62),
    ]
    assert counts.period_s == (AT_S, AT_S + 2)


def test_a_study_at_two_destinations_counts_twice() -> None:
    """A study is complete at one destination and not at the other."""
    with Aggregate() as counts:
        counts.add(entry(result("/a", Outcome.STORED, header("1", 0))))
        counts.add(entry(result("/a", Outcome.REFUSED, header("1", 0)), url="http://other.example"))
        assert [(row.destination, row.is_complete) for row in counts.by_study()] == [
            ("http://other.example", False),
            (URL, True),
        ]
        assert counts.count_studies() == StudyCounts(studies=2, complete=1, verified=0)


def test_a_study_is_verified_if_it_is_complete_and_all_of_it_was_found() -> None:
    """Neither a failure nor a stored file that was not found again is in a verified study; a skipped copy may be."""
    with Aggregate() as counts:
        for study, others in (
            ("1", [Outcome.SKIPPED]),
            ("2", [Outcome.REFUSED]),
            ("3", [Outcome.STORED]),
        ):
            stored = result(f"/{study}/1", Outcome.STORED, header(study, 1))
            counts.add(entry(stored, level="instances", verified_at_s=AT_S))
            for outcome in others:
                counts.add(entry(result(f"/{study}/2", outcome, header(study, 2))))
        assert counts.count_studies() == StudyCounts(studies=3, complete=2, verified=1)


def test_no_files_are_no_error() -> None:
    """Every question has an answer without a file."""
    with Aggregate() as counts:
        assert [*counts.by_study(), *counts.by_reason(), *counts.by_modality(), *counts.by_outcome()] == []
        assert counts.count_studies() == StudyCounts(0, 0, 0)
        assert counts.period_s == (None, None)


entries = st.lists(
    st.builds(
        lambda study, number, outcome, reason, accepted, modality: entry(
            result(
                f"/{study}/{number}",
                outcome,
                header(study, number, modality) if study or outcome.is_success else None,
                reason,
                accepted=accepted if outcome.is_failure else "",
            )
        ),
        st.sampled_from(["", "1", "2", "3"]),
        st.integers(0, 1000),
        st.sampled_from(Outcome),
        st.sampled_from(["", "a", "b: 1", "b: 2"]),
        st.sampled_from(["", "a note"]),
        st.sampled_from(["CT", "", None]),
    )
)


@given(entries)
def test_groups_that_are_written_early_add_up(files: list[Entry]) -> None:
    """The sums equal those of the files, for any number of writes of the groups."""
    with pytest.MonkeyPatch.context() as patch, Aggregate() as counts:
        patch.setattr(aggregate, "GROUPS_IN_MEMORY", 2)
        open_of_study: dict[str, int] = defaultdict(int)
        for one in files:
            counts.add(one)
            open_of_study[one.result.header.study_uid if one.result.header else ""] += one.result.is_failure
        assert {row.outcome: row.files for row in counts.by_outcome()} == Counter(one.result.outcome for one in files)
        reasons = Counter((one.result.outcome, one.result.reason_kind) for one in files)
        assert {(row.outcome, row.reason): row.files for row in counts.by_reason()} == reasons
        assert {row.study_uid: row.is_complete for row in counts.by_study()} == {
            study: not failures for study, failures in open_of_study.items()
        }
        modalities = Counter(one.result.header.modality if one.result.header else None for one in files)
        assert {row.modality: row.files for row in counts.by_modality()} == modalities


def test_memory_does_not_grow_with_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting 10,000 studies with as many reasons takes as much memory as 1,000, within 1 MB."""
    monkeypatch.setattr(aggregate, "GROUPS_IN_MEMORY", 200)
    peaks_bytes = []
    for count in (1_000, 10_000):
        tracemalloc.start()
        with Aggregate() as counts:
            for number in range(count):
                counts.add(entry(result(f"/{number}", Outcome.REFUSED, header(str(number), 1), f"reason {number}")))
            assert sum(1 for _ in counts.by_study()) == sum(1 for _ in counts.by_reason()) == count
        peaks_bytes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks_bytes[1] < peaks_bytes[0] + 1_000_000


def test_names_of_any_bytes_are_kept() -> None:
    """A path that is not UTF-8 comes back as it was."""
    odd = "/a/caf\udce9"
    with Aggregate() as counts:
        counts.add(entry(result(odd, Outcome.UNREADABLE, None, "cannot be read")))
        row = next(counts.by_reason())
        assert isinstance(row, ReasonRow)
        assert (row.example, counts.examples(row, 1, is_accepted=False)[0][0]) == (odd, odd)


def test_a_full_disk_is_explained() -> None:
    """The message about an error of the temporary file names a remedy."""
    counts = Aggregate()
    counts.add(entry(result("/a", Outcome.STORED, header("1", 0))))
    counts._database.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    with pytest.raises(LedgerError, match=r"a report needs a temporary file: .*make room there, or set SQLITE_TMPDIR"):
        list(counts.by_study())
