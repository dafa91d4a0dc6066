"""Claims about the listing of a source server's instances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulkstow.policy.selection import Selection
from tests.retrieval.servers import archive, candidates_of, failures_of, opened, origin_with, quick_backoff

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkstow.retrieval.server.Backoff", quick_backoff)


QUIRKS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "pages of 4": [{"kind": "page-cap", "on": "search", "page-instances": 4}],
    "ignores limit": [{"kind": "ignored-limit"}],
    "ignores limit and offset": [{"kind": "ignored-limit"}, {"kind": "ignored-offset"}],
    "repeats results": [
        {"kind": "page-cap", "page-instances": 5},
        {"kind": "repeated", "repeated-instances": 2},
    ],
    "no match is a list": [{"kind": "empty-list"}],
    "fails now and then": [{"kind": "status", "on": "search", "status": 500, "every": 3}],
    "is too busy": [{"kind": "too-many", "on": "search", "requests": [2]}],
    "no JSON at first": [{"kind": "not-json", "on": "search", "first": 2}],
}


@pytest.mark.parametrize("faults", QUIRKS.values(), ids=QUIRKS)
async def test_every_instance_is_listed_once(tmp_path: Path, faults: list[dict[str, Any]]) -> None:
    """However a server divides its lists, each instance is found once, whole series in one list."""
    held = archive(studies=11, series=2, instances=6)
    async with origin_with(tmp_path, held, *faults) as stored, opened(stored.name) as source:
        lists = await source.scanned()
        assert failures_of(lists) == {}
        found = candidates_of(lists)
        assert {candidate.announced for candidate in found} == {replace(one, transfer_syntax_uid="") for one in held}
        assert len(found) == len(held)
        for listed in lists:
            of_list = {c.announced.series_uid for c in listed if c.announced}  # type: ignore[union-attr]
            others = {c.announced.series_uid for one in lists if one is not listed for c in one if c.announced}  # type: ignore[union-attr]
            assert not of_list & others
        assert source.source.empty_parts == ()


async def test_a_location_is_the_url_of_the_instance(tmp_path: Path) -> None:
    """It is the same in every run, and names the UIDs; size and version are not known."""
    async with origin_with(tmp_path, archive(1, 1, 1)) as stored, opened(f"{stored.name}/") as source:
        (candidate,) = candidates_of(await source.scanned())
        assert candidate.location == f"{stored.name}/studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1"
        assert (candidate.size_bytes, candidate.version) == (0, "")


async def test_fewer_listed_than_counted_is_a_failure(tmp_path: Path) -> None:
    """A server that always lists the first page only loses nothing in silence."""
    faults: list[dict[str, Any]] = [{"kind": "page-cap", "page-instances": 4}, {"kind": "ignored-offset"}]
    async with origin_with(tmp_path, archive(1, 2, 6), *faults) as stored, opened(stored.name) as source:
        lists = await source.scanned()
        # Listed by series too, the server still sends no more than four of each.
        assert len(candidates_of(lists)) == 8
        assert failures_of(lists) == {"/studies/2.25.1": "the source server counts 12 instances, and lists 8"}


async def test_named_studies_are_asked_by_uid(tmp_path: Path) -> None:
    """Only the studies of --studies are listed, and one that the server lacks is a failure."""
    selection = Selection(studies=frozenset({"2.25.2", "2.25.7"}))
    async with origin_with(tmp_path, archive()) as stored, opened(stored.name, selection=selection) as source:
        lists = await source.scanned()
        assert {c.announced.study_uid for c in candidates_of(lists) if c.announced} == {"2.25.2"}
        assert failures_of(lists) == {"/studies/2.25.7": "the source server has no such study"}


async def test_an_empty_server_is_named(tmp_path: Path) -> None:
    """A server without a selected study counts as an empty source."""
    async with origin_with(tmp_path, []) as stored, opened(stored.name) as source:
        assert await source.scanned() == []
        assert source.source.empty_parts == (stored.name,)


async def test_a_study_whose_list_fails_has_a_reason(tmp_path: Path) -> None:
    """Other studies are listed nevertheless."""
    fault = {"kind": "status", "on": "search", "status": 500, "studies": ["2.25.1"]}
    async with origin_with(tmp_path, archive(), fault) as stored, opened(stored.name) as source:
        lists = await source.scanned()
        assert {c.announced.study_uid for c in candidates_of(lists) if c.announced} == {"2.25.2"}
        ((location, reason),) = failures_of(lists).items()
        assert location == "/studies/2.25.1"
        assert reason.startswith("its instances cannot be listed: HTTP 500")
