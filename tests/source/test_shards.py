"""The walk of a shard: the parts are the whole, and other shards' files are not looked at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.sharding import Sharding, ShardLevel
from bulkstow.ports import Found
from bulkstow.quantities import Shard
from bulkstow.source.entries import Directory
from bulkstow.source.paths import find_source
from bulkstow.source.shards import ELSEWHERE, look_in_shard
from bulkstow.source.walk import Walk
from tests.source.test_walk import below, everything, lists, location, plant, results

NAMES = st.sampled_from(["a", "b", "c", "d", "é"])
TREES = st.sets(st.lists(NAMES, min_size=1, max_size=5).map(tuple), max_size=20)
LEVELS: st.SearchStrategy[ShardLevel] = st.sampled_from(["auto", "file", 1, 2, 3, 9])


def of_shard(number: int, shards: int, *sources: Path, level: ShardLevel = "auto", **options: Any) -> list[Found]:
    """Return what the walk of a shard finds in sources of the command line."""
    sharding = Sharding(Shard(number, shards), level)
    return everything(*sources, within=[find_source(str(source)) for source in sources], sharding=sharding, **options)


def all_shards(shards: int, *sources: Path, **options: Any) -> list[list[Found]]:
    """Return what each shard finds."""
    return [of_shard(number, shards, *sources, **options) for number in range(1, shards + 1)]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a new directory for each example of a test."""
    return (tmp_path_factory.mktemp(f"root{number}") for number in count())


@settings(max_examples=60, deadline=None)
@given(tree=TREES, level=LEVELS, shards=st.integers(1, 5))
def test_the_shards_are_the_whole(
    roots: Iterator[Path], tree: set[tuple[str, ...]], level: ShardLevel, shards: int
) -> None:
    """Each file is found by one shard, in any tree, for any number of shards."""
    root = next(roots)
    for names in tree:
        plant(root, "/".join((*(f"{name}.d" for name in names[:-1]), names[-1])))
    found = [below(root, shard) for shard in all_shards(shards, root, level=level)]
    assert sorted(name for shard in found for name in shard) == sorted(below(root, everything(root)))


def test_the_mount_point_does_not_matter(tmp_path: Path) -> None:
    """The same tree at another place has the same shards, also by a link, and if the place is named relatively."""
    names = [f"P{n % 7}/ST{n}/SE/IM{n}" for n in range(60)]
    for root in ("here", "mnt/there"):
        plant(tmp_path / root, *names)
    (tmp_path / "link").symlink_to("here")
    expected = below(tmp_path / "here", of_shard(2, 3, tmp_path / "here"))
    assert 0 < len(expected) < 60
    for other in ("mnt/there", "link"):
        assert below(tmp_path / other, of_shard(2, 3, tmp_path / other)) == expected


def test_several_sources_are_divided_alike(tmp_path: Path) -> None:
    """What is below each source decides, so the same study in two of them is in one shard."""
    names = [f"P{n % 7}/ST{n}/IM{n}" for n in range(40)]
    for root in ("one", "two"):
        plant(tmp_path / root, *names)
    shards = all_shards(3, tmp_path / "one", tmp_path / "two")
    assert sorted(location(one) for shard in shards for one in shard) == sorted(
        str(tmp_path / root / name) for root in ("one", "two") for name in names
    )
    for shard in shards:
        relative = Counter(location(one).removeprefix(str(tmp_path))[4:] for one in shard)
        assert set(relative.values()) == {2}


@pytest.mark.parametrize(("level", "listed"), [("auto", 4), ("file", 4), (1, 1), (2, 1), (9, 4)])
def test_files_of_other_shards_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: ShardLevel, listed: int
) -> None:
    """Only one shard reads the status of a file; below the level's depth, only one lists a directory."""
    plant(tmp_path, *(f"P{n % 3}/ST{n % 9}/SE{n % 2}/IM{n}" for n in range(72)), "IM")
    files = Counter(map(location, everything(tmp_path)))
    calls: Counter[str] = Counter()
    look, scandir = Walk._look, os.scandir

    def count_look(self: Walk, entry: os.DirEntry[str], real_path: str) -> Any:
        calls[entry.path] += not entry.is_dir()
        return look(self, entry, real_path)

    def count_list(path: str) -> Any:
        calls[f"list {os.path.relpath(path, tmp_path)}"] += 1
        return scandir(path)

    monkeypatch.setattr(Walk, "_look", count_look)
    monkeypatch.setattr(os, "scandir", count_list)
    all_shards(4, tmp_path, level=level)
    assert {path: calls[path] for path in files} == files
    assert calls["list P0/ST0"] == listed


# --- empty and unreadable


def walk_of(number: int, shards: int, source: Path, level: ShardLevel = "auto") -> Walk:
    """Return the walk of a shard, after it has ended."""
    sharding = Sharding(Shard(number, shards), level)
    walk = Walk([str(source)], within=[find_source(str(source))], sharding=sharding)
    list(lists(walk))
    return walk


@pytest.mark.parametrize("level", ["auto", "file", 1, 9])
@pytest.mark.parametrize("name", ["IM", "ST/IM", "P/ST/SE/IM"])
def test_a_source_of_other_shards_is_not_empty(tmp_path: Path, level: ShardLevel, name: str) -> None:
    """A shard without a file is no failure while the source has files."""
    plant(tmp_path, name)
    assert all(walk_of(number, 9, tmp_path, level).empty_sources == [] for number in range(1, 10))


@pytest.mark.parametrize("level", ["auto", "file", 1, 9])
def test_an_empty_source_is_empty_for_every_shard(tmp_path: Path, level: ShardLevel) -> None:
    """A share that is not mounted is an empty directory: every shard reports it."""
    assert all(walk_of(n, 3, tmp_path, level).empty_sources == [str(tmp_path)] for n in (1, 2, 3))
    (tmp_path / "bulkstow.db").touch()
    sharding = Sharding(Shard(1, 100), level)
    exclude = frozenset({str(tmp_path / "bulkstow.db")})
    walk = Walk([str(tmp_path)], within=[find_source(str(tmp_path))], exclude=exclude, sharding=sharding)
    assert list(lists(walk)) == []
    assert walk.empty_sources == [str(tmp_path)], "also if it has only the run's own files"


def test_empty_directories_are_empty_for_the_shards_that_enter_them(tmp_path: Path) -> None:
    """Without a level every shard enters them; with one, at least the shard that they belong to."""
    (tmp_path / "share").mkdir()
    assert all(walk_of(number, 3, tmp_path).empty_sources for number in (1, 2, 3))
    assert sum(bool(walk_of(number, 3, tmp_path, 1).empty_sources) for number in (1, 2, 3)) == 1


def test_a_directory_that_cannot_be_listed_is_reported_by_all_that_may_miss_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a level, each shard may have files below it; with one, its own shard."""
    plant(tmp_path, "ST/IM")
    scandir = os.scandir

    def fail(path: str) -> Any:
        if path.endswith("/ST"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    assert [list(results(shard)) for shard in all_shards(3, tmp_path)] == [["ST"]] * 3
    assert sorted(list(results(shard)) for shard in all_shards(3, tmp_path, level=1)) == [[], [], ["ST"]]


# --- links


def test_links_that_are_not_followed_belong_to_their_directory(tmp_path: Path) -> None:
    """Each link is reported by one shard."""
    plant(tmp_path, "data/x")
    for number in range(20):
        (tmp_path / f"P{number}").mkdir()
        (tmp_path / f"P{number}/directory").symlink_to("../data")
        (tmp_path / f"P{number}/file").symlink_to("../data/x")
        (tmp_path / f"P{number}/nothing").symlink_to("gone")
    found = [below(tmp_path, shard) for shard in all_shards(4, tmp_path)]
    assert all(found)
    assert sorted(name for shard in found for name in shard) == sorted(below(tmp_path, everything(tmp_path)))


@pytest.mark.parametrize("level", ["auto", "file", 1, 2])
def test_no_followed_link_loses_a_file(tmp_path: Path, level: ShardLevel) -> None:
    """Directories that several links lead to are found, at least once; no path is found twice."""
    plant(tmp_path, *(f"elsewhere/P{n % 5}/ST{n}/IM" for n in range(20)))
    (tmp_path / "archive").mkdir()
    for number in range(12):
        (tmp_path / f"archive/link{number}").symlink_to(f"../elsewhere/P{number % 5}")
    (tmp_path / "archive/file").symlink_to("../elsewhere/P0/ST0/IM")
    found = [
        location(one)
        for shard in all_shards(4, tmp_path / "archive", level=level, follow_links=True)
        for one in shard
        if isinstance(one, Candidate)
    ]
    assert len(found) == len(set(found))
    real = {os.path.realpath(path) for path in found}
    assert real == {str(tmp_path / f"elsewhere/P{n % 5}/ST{n}/IM") for n in range(20)}


def test_a_followed_link_that_leads_nowhere_is_reported(tmp_path: Path) -> None:
    """It might have led to a file or to a directory: their shards report it."""
    (tmp_path / "P").mkdir()
    (tmp_path / "P/link").symlink_to("gone")
    found = [shard for shard in all_shards(16, tmp_path, follow_links=True) if shard]
    assert 1 <= len(found) <= 2
    assert all(results(shard)["link"][0] is Outcome.UNREADABLE for shard in found)


# --- names


def test_files_of_the_command_line_and_of_lists_are_in_one_shard(tmp_path: Path) -> None:
    """Every name of a file is taken as it is written; missing ones are reported."""
    plant(tmp_path, *(f"ST{number}/IM" for number in range(30)))
    files = [tmp_path / f"ST{number}/IM" for number in range(30)]
    for within in (map(find_source, map(str, files)), ()):
        options = {"within": tuple(within)}
        shards = [everything(*files, sharding=Sharding(Shard(number, 3), 99), **options) for number in (1, 2, 3)]
        assert all(shards)
        assert sorted(location(one) for shard in shards for one in shard) == sorted(map(str, files))
    gone = [everything(tmp_path / "gone", sharding=Sharding(Shard(number, 3))) for number in (1, 2, 3)]
    assert 1 <= len([one for shard in gone for one in shard if isinstance(one, FileResult)]) <= 2


def test_directories_of_a_list_are_units(tmp_path: Path) -> None:
    """A list of studies is divided by studies, though their files lie directly in them."""
    plant(tmp_path, *(f"{patient}/ST{n}/SE{n % 2}/IM" for patient in "ab" for n in range(20)))
    studies = [tmp_path / f"{patient}/ST{n}" for patient in "ab" for n in range(20)]
    shards = [everything(*studies, sharding=Sharding(Shard(number, 4))) for number in range(1, 5)]
    assert all(shards)
    assert sorted(location(one) for shard in shards for one in shard) == sorted(
        location(one) for one in everything(*studies)
    )


def test_names_of_other_shards_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a list, a shard reads the status of two parts: what are its own as files, and as directories."""
    plant(tmp_path, *(f"ST{number}/IM" for number in range(200)))
    looked: Counter[str] = Counter()
    find = Walk._find_source

    def count_find(self: Walk, source: str) -> Any:
        looked[source] += 1
        return find(self, source)

    monkeypatch.setattr(Walk, "_find_source", count_find)
    for number in range(1, 11):
        everything(*tmp_path.glob("*/IM"), sharding=Sharding(Shard(number, 10), 99))
    assert set(looked.values()) <= {1, 2}
    assert len(looked) == 200


# --- what changes during the walk


class Entry:
    """An entry of a listing; `kind` is that of the listing, None if it has none and the status cannot be read."""

    def __init__(self, kind: str | None) -> None:
        self.name = "x"
        self._kind = kind

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        """Return the kind."""
        if self._kind is None:
            raise PermissionError
        return self._kind == "directory"

    def is_symlink(self) -> bool:
        """Return the kind."""
        if self._kind is None:
            raise PermissionError
        return self._kind == "link"


FILE, DIRECTORY = Candidate("/P/x", 1, 1), Directory("/P/x", (1, 1))
FAILURE = FileResult(FILE, None, Outcome.UNREADABLE)


@pytest.mark.parametrize(
    ("kind", "found", "in_own", "in_others"),
    [
        ("file", FILE, "found", "elsewhere"),
        ("file", DIRECTORY, "entered", "elsewhere"),
        ("file", FAILURE, "found", "elsewhere"),
        ("directory", DIRECTORY, "entered", "entered"),
        ("directory", FILE, "found", "elsewhere"),
        ("directory", FAILURE, "found", "found"),
        ("link", FILE, "found", "elsewhere"),
        (None, FAILURE, "found", "found"),
        ("file", None, "excluded", "elsewhere"),
    ],
)
def test_the_kind_may_change_between_listing_and_look(
    kind: str | None, found: Found | Directory | None, in_own: str, in_others: str
) -> None:
    """A file is found by its shard only; a directory that cannot be looked at is a result of all shards."""
    for number in range(1, 6):
        place = Sharding(Shard(number, 5)).root.below("P")
        result = look_in_shard(Entry(kind), place, lambda: found, follow_links=True)  # type: ignore[arg-type]
        if isinstance(result, Directory):
            assert result == replace(DIRECTORY, place=place.below("x"))
            what = "entered"
        elif result is ELSEWHERE:
            what = "elsewhere"
        else:
            assert result is found
            what = "excluded" if result is None else "found"
        assert what == (in_own if place.owns_files else in_others)
