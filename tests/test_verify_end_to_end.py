"""Claims about `verify` against the embedded server: losses are named and sent again, with any quirk of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from bulkstow.model import Header, StoreResponse
from bulkstow.server.fault_plan import plan_of
from bulkstow.server.origin import RequestFault
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DirectoryStorage
from tests.cli.command import served
from tests.lost_instances import GONE, GONE_STUDY, LARGE, STUDIES, Archive, Migration, content, prove


class Receipts:
    """A fault that does nothing but keep the SOP Instance UIDs that were stored."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | RequestFault | None:
        """Store."""

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Keep the UID of a stored instance."""
        self.stored += [item.sop_instance_uid for item in response.stored]
        return response


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embedded server."""

    url: str
    storage: DirectoryStorage
    injector: ReadFaultInjector
    receipts: Receipts = field(default_factory=Receipts)

    def instances(self) -> frozenset[str]:
        """Return the SOP Instance UIDs that it has."""
        return frozenset(held.header.sop_instance_uid for held in self.storage.catalogue.instances())

    def lose(self, *uids: str) -> None:
        """Remove a study, a series or an instance."""
        assert anyio.run(self.storage.remove, *uids)

    def replace(self, replaced: Header, content: bytes) -> None:
        """Write other bytes."""
        self.storage.path(replaced).write_bytes(content)


@contextmanager
def embedded(directory: Path, *faults: dict[str, Any]) -> Iterator[Embedded]:
    """Run an embedded server with these faults of searches and retrievals."""
    storage, receipts = DirectoryStorage(directory / "root"), Receipts()
    injector = ReadFaultInjector(plan_of({"fault": list(faults)}))
    with served(storage, fault=receipts, read_fault=injector) as url:
        yield Embedded(url, storage, injector, receipts)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Give an archive that no test changes."""
    return Archive.made_in(tmp_path_factory.mktemp("lost") / "archive")


NO_SETTLING = ("--settle", "0s")

QUIRKS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "pages-of-100": [{"kind": "page-cap", "page-instances": 100}],
    "pages-of-1": [{"kind": "page-cap", "page-instances": 1, "studies": [header.study_uid for header in GONE[2:]]}],
    "ignores-limit": [{"kind": "ignored-limit"}],
    "ignores-limit-and-offset": [{"kind": "ignored-limit"}, {"kind": "ignored-offset"}],
    "empty-list-instead-of-204": [{"kind": "empty-list"}],
    "repeats-across-pages": [
        {"kind": "page-cap", "page-instances": 100},
        {"kind": "repeated", "repeated-instances": 7},
    ],
    "fails-in-the-middle-of-a-page": [
        {"kind": "page-cap", "page-instances": 100},
        {"kind": "truncated", "on": "search", "every": 25},
    ],
    "fails-in-the-middle-of-an-instance": [{"kind": "truncated", "on": "retrieve", "every": 20}],
    "no-answer": [
        {"kind": "silent", "on": "search", "every": 40},
        {"kind": "silent", "on": "retrieve", "every": 25},
    ],
    "busy": [
        {"kind": "unavailable", "on": "search", "requests": [50, 100]},
        {"kind": "too-many", "on": "retrieve", "requests": [10, 11, 30], "retry-after": 0},
    ],
    "no-json": [{"kind": "not-json", "on": "search", "every": 40}],
}


@pytest.mark.parametrize("faults", QUIRKS.values(), ids=QUIRKS)
def test_what_is_lost_is_named_and_sent_again(
    faults: list[dict[str, Any]], archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly the lost instances and study, and the replaced instance, are named; the next upload sends the lost.

    With every quirk of the server the result is the same.
    """
    with embedded(tmp_path, *faults) as server:
        prove(Migration(archive, server, tmp_path, capsys, NO_SETTLING))
        lost = archive.of_gone_study | {header.sop_instance_uid for header in GONE}
        assert sorted(server.receipts.stored) == sorted([*archive.headers, *lost])
        assert {kind.value for kind in server.injector.injected} == {fault["kind"] for fault in faults}


def test_an_index_that_is_late(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Instances that the server indexes with a delay are not missing; lost instances are."""
    with embedded(tmp_path, {"kind": "late-index", "delay": "500ms"}) as server:
        prove(Migration(archive, server, tmp_path, capsys, ("--settle", "1s")))


def test_a_study_that_cannot_be_listed_is_unknown(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search that fails permanently makes no instance missing: the study is unknown, and an upload sends nothing."""
    fault = {"kind": "status", "on": "search", "studies": [GONE_STUDY], "status": 500}
    with embedded(tmp_path, fault) as server:
        migration = Migration(archive, server, tmp_path, capsys, (*NO_SETTLING, "--retries", "1"))
        migration.upload()
        verified = migration.verify()
        assert verified.status == 1
        assert verified.in_state("unknown") == {GONE_STUDY}
        assert len(verified.in_state("complete")) == STUDIES - 1
        assert verified.named("missing") == frozenset()
        assert "500" in verified.studies[GONE_STUDY]["reason"]
        again = migration.upload()
        assert again["settled_before"] == len(archive.headers)
        assert len(server.receipts.stored) == len(archive.headers)


def test_another_instance_is_different(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the server sends another instance than requested, the instance and its study are different."""
    with embedded(tmp_path) as server:
        migration = Migration(archive, server, tmp_path, capsys, NO_SETTLING)
        migration.upload()
        server.replace(GONE[0], content(GONE[1]))
        verified = migration.verify("--level", "content")
        assert verified.status == 1
        assert verified.named("different") == {GONE[0].sop_instance_uid}
        assert verified.in_state("different") == {GONE[0].study_uid}


def test_counts(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the level of counts studies with too few instances are incomplete, and nothing is named or sent again."""
    with embedded(tmp_path) as server:
        migration = Migration(archive, server, tmp_path, capsys, NO_SETTLING)
        migration.upload()
        for uids in GONE:
            server.lose(uids.study_uid, uids.series_uid, uids.sop_instance_uid)
        server.lose(GONE_STUDY)
        verified = migration.verify("--level", "counts")
        assert verified.status == 1
        assert verified.in_state("incomplete") == {uids.study_uid for uids in GONE}
        assert verified.in_state("absent") == {GONE_STUDY}
        large = verified.studies[GONE[0].study_uid]
        assert (large["expected"], large["found"]) == (LARGE, LARGE - 2)
        assert verified.named("missing") == frozenset()
        assert migration.upload()["settled_before"] == len(archive.headers)


def test_more_than_was_sent(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Instances of another sender in a verified study are listed as extra, and are no failure."""
    with embedded(tmp_path) as server:
        whole = Migration(archive, server, tmp_path, capsys, NO_SETTLING)
        whole.upload()
        one = tmp_path / "one"
        one.mkdir()
        (one / "IM000001").write_bytes((archive.directory / "study02" / "IM000001").read_bytes())
        (tmp_path / "few").mkdir()
        few = Migration(Archive(one), server, tmp_path / "few", capsys, NO_SETTLING)
        few.upload()
        verified = few.verify()
        assert verified.status == 0, verified.says
        assert verified.in_state("extra") == {GONE[2].study_uid}
        assert len(verified.named("extra")) == 4


def test_repair(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --repair one command names the lost instances, sends exactly these, and ends with 0 if all arrive."""
    with embedded(tmp_path) as server:
        migration = Migration(archive, server, tmp_path, capsys, NO_SETTLING)
        migration.upload()
        for uids in GONE:
            server.lose(uids.study_uid, uids.series_uid, uids.sop_instance_uid)
        server.lose(GONE_STUDY)
        before = len(server.receipts.stored)
        repaired = migration.verify("--repair")
        lost = archive.of_gone_study | {header.sop_instance_uid for header in GONE}
        assert sorted(server.receipts.stored[before:]) == sorted(lost)
        assert repaired.status == 0, repaired.says
        assert repaired.in_state("complete") == {header.study_uid for header in archive.headers.values()}
        assert repaired.lines == STUDIES + 3, "three studies are verified again"
        assert server.instances() == archive.headers.keys()


def test_a_source_is_verified_without_an_upload(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of a source are expected at the server, for any sender, also without a row in the ledger."""
    with embedded(tmp_path) as server:
        Migration(archive, server, tmp_path, capsys, NO_SETTLING).upload()
        server.lose(GONE[2].study_uid, GONE[2].series_uid, GONE[2].sop_instance_uid)
        server.lose(GONE_STUDY)
        (tmp_path / "other").mkdir()
        other = Migration(archive, server, tmp_path / "other", capsys, NO_SETTLING)
        verified = other.verify(str(archive.directory))
        assert verified.status == 1
        assert verified.named("missing") == archive.of_gone_study | {GONE[2].sop_instance_uid}
        assert verified.in_state("absent") == {GONE_STUDY}
        assert len(verified.in_state("complete")) == STUDIES - 2


def test_only_chosen_studies_are_verified(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list of studies and a sample limit the queries and the results; the same seed gives the same sample."""
    with embedded(tmp_path) as server:
        migration = Migration(archive, server, tmp_path, capsys, NO_SETTLING)
        migration.upload()
        server.lose(GONE_STUDY)
        studies = tmp_path / "studies"
        studies.write_text(f"{GONE_STUDY}\n{GONE[0].study_uid}\n")
        listed = migration.verify("--studies", str(studies))
        assert listed.studies.keys() == {GONE_STUDY, GONE[0].study_uid}
        assert (listed.status, listed.named("missing")) == (1, archive.of_gone_study)
        samples = [migration.verify("--sample", "25%", "--seed", seed).studies.keys() for seed in ("a", "a", "b")]
        assert samples[0] == samples[1] != samples[2]
        assert [len(sample) for sample in samples] == [10, 10, 10]
        assert len(migration.verify("--sample", "7").studies) == 7
