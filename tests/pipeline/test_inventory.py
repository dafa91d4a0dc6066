"""The inventory of a plan: added files are returned, and its figures equal a count by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline import inventory as module
from bulkstow.pipeline.inventory import Inventory, State
from bulkstow.pipeline.plan import MOST_GROUPS, Amount, plan_of
from tests.archives import header


@pytest.fixture
def inventory() -> Iterator[Inventory]:
    """Give an empty inventory."""
    with closing(Inventory()) as inventory:
        yield inventory


def instance(number: int, *, study: int = 1, modality: str | None = "CT", date: str | None = "20240101") -> Instance:
    """Return an instance with the path and the version of its number."""
    of_file = replace(header(number, study=study), modality=modality, study_date=date)
    return Instance(Candidate(f"/a/{study}/{number}", 10, number, by_link=False), of_file)


def conflict(number: int, uid_of: int) -> FileResult:
    """Return a file in conflict with the file of another number."""
    first = instance(uid_of)
    return FileResult(
        Candidate(f"/z/{number}", 10, number),
        first.header,
        Outcome.CONFLICT,
        "differs",
        copy_of=first.candidate.location,
    )


def exact(one: Instance) -> tuple[object, ...]:
    """Return all values of an instance, also values that comparisons ignore."""
    return one, one.candidate.by_link, one.header.modality, one.header.study_date


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("/a/1", 10, 17, by_link=True),
        Candidate("/a/\udcff\n", 2**40, -(2**70)),
        Candidate("s3://bucket/ü", 0, "007", by_link=False),
    ],
    ids=["a link", "a strange name and time", "an object"],
)
def test_an_owner_is_the_file_that_was_added(inventory: Inventory, candidate: Candidate) -> None:
    """A file to send comes back with every value, by its UID."""
    added = replace(instance(1, modality=None, date=""), candidate=candidate)
    inventory.add_instances([added, instance(2)])
    (found,) = inventory.owners([added.header.sop_instance_uid, "2.25.7"])[added.header.sop_instance_uid]
    assert exact(found) == exact(added)
    assert inventory.owners([]) == {}


def test_only_files_to_send_are_owners(inventory: Inventory) -> None:
    """Files that are not sent own no UID."""
    one = instance(1)
    for state in (State.FOUND, State.SETTLED):
        inventory.add_results([FileResult(one.candidate, one.header, Outcome.SKIPPED)], state)
    assert inventory.owners([one.header.sop_instance_uid]) == {}


def test_a_hash_is_no_uid(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    """UIDs with the same hash are kept apart."""
    monkeypatch.setattr(module, "hash", lambda _uid: 7, raising=False)
    inventory.add_instances([instance(1), instance(2)])
    uids = [instance(number).header.sop_instance_uid for number in (1, 2, 3)]
    assert {uid: [i.candidate.version for i in found] for uid, found in inventory.owners(uids).items()} == {
        uids[0]: [1],
        uids[1]: [2],
    }


def test_conflicts_are_taken_one_of_each_uid(inventory: Inventory) -> None:
    """The first file of each SOP Instance UID by its path is removed and returned, then the next one."""
    inventory.add_results([conflict(3, 1), conflict(2, 1), conflict(5, 2)])
    taken = [[candidate.location for candidate in inventory.take_conflicts(10)] for _ in range(3)]
    assert taken == [["/z/2", "/z/5"], ["/z/3"], []]
    assert plan_of(inventory).conflicts == Amount()


def test_the_last_result_of_a_path_counts(inventory: Inventory) -> None:
    """A path that is not sent has one row."""
    one = instance(1)
    for outcome in (Outcome.UNREADABLE, Outcome.SKIPPED):
        inventory.add_results([FileResult(one.candidate, None, outcome, "why")])
    plan = plan_of(inventory)
    assert (plan.found.files, plan.failures) == (1, 0)


def test_a_forgotten_header_changes_no_figure(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are the same if headers have left the cache."""
    monkeypatch.setattr(module, "HEADERS_AT_HAND", 1)
    inventory.add_instances([instance(number, study=number % 3) for number in range(30)])
    plan = plan_of(inventory)
    assert (plan.studies, plan.series, plan.studies_to_send, plan.sop_instances) == (3, 3, 3, 30)
    assert len(plan.by_modality.largest) == 1


def test_groups_beyond_a_number_are_added_up(inventory: Inventory) -> None:
    """However many modalities there are, memory holds the largest ones, and nothing is lost."""
    count = MOST_GROUPS + 50
    inventory.add_instances([instance(number, modality=f"M{number:04}") for number in range(count)])
    inventory.add_instances([instance(count + number, modality="CT") for number in range(5)])
    groups = plan_of(inventory).by_modality
    assert len(groups.largest) == MOST_GROUPS
    assert (groups.largest[0].value, groups.largest[0].found) == ("CT", Amount(5, 50))
    assert (groups.others, groups.found, groups.to_send) == (51, Amount(51, 510), Amount(51, 510))


def test_the_order_of_paths(inventory: Inventory) -> None:
    """Paths come in the order of the scan, or the newest study first, by its latest date, and undated ones last."""
    inventory.add_instances(
        [
            instance(1, study=1, date="20200101"),
            instance(2, study=2, date=""),
            instance(3, study=3, date="20220101"),
            instance(4, study=1, date="20230101"),
            instance(5, study=4, date=None),
        ]
    )
    inventory.add_up()
    assert list(inventory.paths_to_send()) == [b"/a/1/1", b"/a/2/2", b"/a/3/3", b"/a/1/4", b"/a/4/5"]
    assert list(inventory.paths_to_send(newest_first=True)) == [b"/a/1/1", b"/a/1/4", b"/a/3/3", b"/a/2/2", b"/a/4/5"]


def test_studies_to_send_have_what_the_server_will_have(inventory: Inventory) -> None:
    """A study with files to send counts these and its stored files; other studies are not listed."""
    stored, other = instance(8, study=1), instance(9, study=2)
    inventory.add_instances([instance(1), instance(2)])
    inventory.add_results([FileResult(i.candidate, i.header, Outcome.STORED) for i in (stored, other)], State.SETTLED)
    inventory.add_results([conflict(3, 1)])
    inventory.add_up()
    assert list(inventory.studies_to_send()) == [("2.25.1", 3)]
    assert inventory.count_studies_to_send() == 1


FILES = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["CT", "MR", "", None]), st.sampled_from(["20200101", "2021", "", None])
    )
)


@given(files=FILES, results=st.lists(st.sampled_from([Outcome.SKIPPED, Outcome.UNREADABLE, Outcome.CONFLICT])))
@settings(max_examples=50, deadline=None)
def test_figures_are_those_of_a_count(files: list[tuple[int, str | None, str | None]], results: list[Outcome]) -> None:
    """For any files, totals and groups equal a count in memory."""
    instances = [instance(n, study=study, modality=m, date=d) for n, (study, m, d) in enumerate(files)]
    with closing(Inventory()) as inventory:
        inventory.add_instances(instances)
        inventory.add_results(
            [FileResult(Candidate(f"/r/{n}", 3, n), None, outcome, f"why: {n}") for n, outcome in enumerate(results)]
        )
        plan = plan_of(inventory)
    assert plan.found == Amount(len(files) + len(results), 10 * len(files) + 3 * len(results))
    assert plan.to_send == plan.instances == Amount(len(files), 10 * len(files))
    assert plan.studies == plan.studies_to_send == len({study for study, *_ in files})
    assert {g.value: g.to_send.files for g in plan.by_modality.largest} == Counter(m for _, m, _ in files)
    assert {g.value: g.found.files for g in plan.by_year.largest} == Counter(d and d[:4] for *_, d in files)
    assert plan.failures == sum(outcome.is_failure for outcome in results)
    assert {reason.outcome: reason.found.files for reason in plan.not_sent} == Counter(
        outcome for outcome in results if outcome is not Outcome.CONFLICT
    )
