"""The walk: its results, their order, and unusual directories."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkstow.blocking import Worker
from bulkstow.errors import ConfigurationError
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.ports import Found
from bulkstow.source.paths import find_source
from bulkstow.source.walk import Walk


def plant(root: Path, *names: str) -> None:
    """Make empty files and their directories."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def lists(walk: Walk) -> Iterator[list[Found]]:
    """Yield the lists of a walk in one thread."""
    return iter(lambda: walk.run_steps(Worker()), [])


def everything(*sources: Path | str, **options: Any) -> list[Found]:
    """Return all that the walk finds, in one list."""
    return [found for gathered in lists(Walk(map(str, sources), **options)) for found in gathered]


def location(found: Found) -> str:
    """Return the path of a result."""
    return found.location if isinstance(found, Candidate) else found.candidate.location


def below(root: Path, found: Iterable[Found]) -> list[str]:
    """Return the paths of results, relative to `root`."""
    return [os.path.relpath(location(one), root) for one in found]


def results(found: Iterable[Found]) -> dict[str, tuple[Outcome, str]]:
    """Return outcome and reason of each file result, by its name."""
    return {Path(location(one)).name: (one.outcome, one.reason) for one in found if isinstance(one, FileResult)}


# --- what it finds


def test_a_candidate_has_the_status_of_its_file(tmp_path: Path) -> None:
    """Absolute path, size in bytes and modification time in nanoseconds come from one status of the file."""
    path = tmp_path / "IM0"
    path.write_bytes(bytes(321))
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    expected = Candidate(str(path), 321, path.stat().st_mtime_ns)
    assert everything(tmp_path) == [expected]
    assert everything(path) == [expected]


def test_a_relative_source_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is used from another directory has the same files."""
    plant(tmp_path, "a/b")
    monkeypatch.chdir(tmp_path)
    assert [location(found) for found in everything("a", "./a/../a/b")] == [str(tmp_path / "a/b")] * 2


def test_files_first_then_directories_each_by_name(tmp_path: Path) -> None:
    """Within a directory the order is by name, files before the content of subdirectories."""
    plant(tmp_path, "z", "b/2", "b/10", "b/a/x", "a/1", "B", "é", "c")
    assert below(tmp_path, everything(tmp_path)) == ["B", "c", "z", "é", "a/1", "b/10", "b/2", "b/a/x"]


def test_sources_keep_their_order(tmp_path: Path) -> None:
    """Sources are walked in their order, files and directories alike."""
    plant(tmp_path, "z/1", "m", "a/1")
    found = everything(tmp_path / "z", tmp_path / "m", tmp_path / "a")
    assert below(tmp_path, found) == ["z/1", "m", "a/1"]


@pytest.mark.parametrize("sort_window", [1, 2, 3, 7, 100])
def test_a_directory_larger_than_the_window_is_found_whole(tmp_path: Path, sort_window: int) -> None:
    """Every entry is found once, in one window or several, each of which is sorted."""
    names = [f"f{number}" for number in range(7)] + ["d1/x", "d2/x", "d2/y"]
    plant(tmp_path, *names)
    found = below(tmp_path, everything(tmp_path, sort_window=sort_window))
    assert sorted(found) == sorted(names)
    assert [name for name in found if name.startswith("d2")] == sorted(n for n in found if n.startswith("d2"))


def test_lists_are_full_but_for_the_last(tmp_path: Path) -> None:
    """A list is filled across directories up to the requested length."""
    plant(tmp_path, *(f"d{number % 3}/f{number}" for number in range(10)))
    assert [len(gathered) for gathered in lists(Walk([str(tmp_path)], list_length=4))] == [4, 4, 2]
    assert list(lists(Walk([]))) == []


def test_sources_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    """An endless list of names can be walked: only the names for the next list are read."""
    plant(tmp_path, "a")
    asked = 0

    def endless() -> Iterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield str(tmp_path / "a")

    walked = Walk(endless(), list_length=5)
    assert len(next(lists(walked))) == 5
    assert asked == 5


def test_names_that_are_not_utf_8_are_found(tmp_path: Path) -> None:
    """A name of any bytes is found, and refers to its file."""
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(name)).write_bytes(b"123")
    (found,) = everything(tmp_path)
    assert isinstance(found, Candidate)
    assert os.fsencode(found.location) == name
    assert found.size_bytes == 3


def test_excluded_paths_are_skipped(tmp_path: Path) -> None:
    """The ledger's own files are not reported, nor is an excluded directory entered, nor an excluded source."""
    plant(tmp_path, "a", "bulkstow.db", "bulkstow.db-wal", "d/x")
    exclude = frozenset(str(tmp_path / name) for name in ("bulkstow.db", "bulkstow.db-wal", "d"))
    assert below(tmp_path, everything(tmp_path, tmp_path / "bulkstow.db", exclude=exclude)) == ["a"]


def test_a_tree_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    """Only the file system limits the depth."""
    deepest = tmp_path
    for _ in range(sys.getrecursionlimit() + 500):
        deepest /= "d"
        deepest.mkdir()
    plant(deepest, "x")
    try:
        assert below(deepest, everything(tmp_path)) == ["x"]
    finally:
        # shutil.rmtree, with which pytest tidies up, does recurse.
        (deepest / "x").unlink()
        while deepest != tmp_path:
            deepest.rmdir()
            deepest = deepest.parent


# --- links


NOT_FOLLOWED = (Outcome.SKIPPED, "a link to a directory, not followed: --follow-links follows it")
OUTSIDE = (Outcome.SKIPPED, "a link to a file outside the sources: --follow-links sends it")
WALKED_ALREADY = (Outcome.SKIPPED, "a directory that was reached before: its files are sent under their other names")


def candidates(found: Iterable[Found]) -> list[Candidate]:
    """Return the files."""
    return [one for one in found if isinstance(one, Candidate)]


def test_no_link_leads_out_of_the_source(tmp_path: Path) -> None:
    """Links to a directory above or beside the source, and to a file elsewhere, are not followed; each is reported."""
    plant(tmp_path, "foreign/x", "archive/a")
    archive = tmp_path / "archive"
    (archive / "loop").symlink_to("..")
    (archive / "beside").symlink_to(tmp_path / "foreign")
    (archive / "file").symlink_to("../foreign/x")
    (archive / "chain").symlink_to(tmp_path / "through")
    (tmp_path / "through").symlink_to("foreign/x")
    (tmp_path / "archive2").mkdir()
    (archive / "alike").symlink_to(tmp_path / "archive2/x")
    (tmp_path / "archive2/x").touch()
    found = everything(archive)
    assert below(archive, candidates(found)) == ["a"]
    assert results(found) == {
        "loop": NOT_FOLLOWED,
        "beside": NOT_FOLLOWED,
        "file": OUTSIDE,
        "chain": OUTSIDE,
        "alike": OUTSIDE,
    }


def test_a_link_to_a_file_of_the_source_is_followed(tmp_path: Path) -> None:
    """Its real path decides: by a chain of links that leads out and back, through `..`, or relative."""
    plant(tmp_path, "archive/d/x", "archive/d/y", "archive/d/z")
    archive = tmp_path / "archive"
    (archive / "a1").symlink_to("d/x")
    (archive / "a2").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").symlink_to(archive / "d/y")
    (archive / "a3").symlink_to("d/../../archive/d/z")
    found = everything(archive)
    assert below(archive, found) == ["a1", "a2", "a3", "d/x", "d/y", "d/z"]
    assert [one.by_link for one in candidates(found)] == [True] * 3 + [False] * 3


def test_a_link_to_a_directory_of_the_source_is_not_followed(tmp_path: Path) -> None:
    """Its files are found under their own paths."""
    plant(tmp_path, "data/x")
    (tmp_path / "link").symlink_to("data")
    found = everything(tmp_path)
    assert below(tmp_path, found) == ["link", "data/x"]
    assert results(found) == {"link": NOT_FOLLOWED}


def test_a_link_into_another_source_is_followed(tmp_path: Path) -> None:
    """Files in any of the sources are sent, in any order of the sources, and if these are links."""
    plant(tmp_path, "one/a", "two/b")
    (tmp_path / "one/link").symlink_to(tmp_path / "two/b")
    (tmp_path / "second").symlink_to("two")
    sources = [str(tmp_path / "one"), str(tmp_path / "second")]
    found = everything(*sources, within=map(find_source, sources))
    assert below(tmp_path, found) == ["one/a", "one/link", "second/b"]
    assert results(everything(sources[0])) == {"link": OUTSIDE}


def test_a_link_named_as_a_source_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    """A link that is a source is followed, and links below it are compared with its real path."""
    plant(tmp_path, "data/x", "data/y", "f")
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "data/z").symlink_to("y")
    (tmp_path / "file").symlink_to("f")
    found = everything(tmp_path / "link", tmp_path / "file")
    assert below(tmp_path, found) == ["link/x", "link/y", "link/z", "file"]
    assert all(isinstance(one, Candidate) for one in found)


def test_excluded_paths_are_skipped_through_a_linked_directory(tmp_path: Path) -> None:
    """A source that has only the ledger is empty, under any name."""
    plant(tmp_path / "share", "bulkstow.db", "bulkstow.db-lock")
    (tmp_path / "archive").symlink_to(tmp_path / "share")
    exclude = frozenset(str(tmp_path / "share" / name) for name in ("bulkstow.db", "bulkstow.db-lock"))
    walked = Walk([str(tmp_path / "archive")], exclude=exclude)
    assert list(lists(walked)) == []
    assert walked.empty_sources == [str(tmp_path / "archive")]


def test_a_link_to_an_excluded_path_is_skipped(tmp_path: Path) -> None:
    """The ledger is excluded under any name."""
    plant(tmp_path, "a", "bulkstow.db")
    (tmp_path / "journal").symlink_to("bulkstow.db")
    found = everything(tmp_path, exclude=frozenset({str(tmp_path / "bulkstow.db")}))
    assert below(tmp_path, found) == ["a"]


def test_a_directory_that_was_replaced_by_a_link_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory may be replaced by a link out of the source before it is listed."""
    plant(tmp_path, "archive/d/x", "archive/e/y", "foreign/z")
    scandir = os.scandir

    def replace(path: str) -> Any:
        if path.endswith("/d"):
            Path(path).rename(tmp_path / "away")
            Path(path).symlink_to(tmp_path / "foreign")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", replace)
    found = everything(tmp_path / "archive")
    assert below(tmp_path, candidates(found)) == ["archive/e/y"]
    assert results(found) == {"d": (Outcome.UNREADABLE, "a directory that was replaced by a link")}


def test_links_are_followed_on_demand(tmp_path: Path) -> None:
    """With `follow_links`, the target of a link is found under the link's path."""
    plant(tmp_path, "elsewhere/d/x", "elsewhere/f", "tree/a")
    (tmp_path / "tree/file").symlink_to(tmp_path / "elsewhere/f")
    (tmp_path / "tree/directory").symlink_to(tmp_path / "elsewhere/d")
    found = everything(tmp_path / "tree", follow_links=True)
    assert below(tmp_path, found) == ["tree/a", "tree/file", "tree/directory/x"]


def test_circular_links_end(tmp_path: Path) -> None:
    """A link to an ancestor, and directories that link to each other, are walked once and reported."""
    plant(tmp_path, "a/x", "b/y")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/here").symlink_to(".")
    (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
    found = everything(tmp_path, follow_links=True)
    assert below(tmp_path, candidates(found)) == ["a/x", "a/to_b/y", "b/y", "b/to_a/x"]
    assert results(found) == dict.fromkeys(("up", "here", "to_a", "to_b"), WALKED_ALREADY)


def test_a_directory_is_entered_by_link_once(tmp_path: Path) -> None:
    """Of several links to a directory the first counts, beside the directory itself."""
    plant(tmp_path, "data/x")
    for name in ("link1", "link2", "link3"):
        (tmp_path / name).symlink_to("data")
    found = everything(tmp_path, follow_links=True)
    assert below(tmp_path, candidates(found)) == ["data/x", "link1/x"]
    assert results(found) == dict.fromkeys(("link2", "link3"), WALKED_ALREADY)


def test_directories_that_all_link_to_each_other_stay_finite(tmp_path: Path) -> None:
    """Twenty directories with links to all of them would have 20! paths; each is entered twice at most."""
    for here in range(20):
        plant(tmp_path, f"{here}/x")
        for there in range(20):
            (tmp_path / f"{here}/to{there}").symlink_to(tmp_path / str(there))
    assert len(candidates(everything(tmp_path, follow_links=True))) <= 40


def test_a_link_named_as_a_source_is_always_entered(tmp_path: Path) -> None:
    """A source is walked, even if a link has led to it before."""
    plant(tmp_path, "data/x")
    (tmp_path / "link").symlink_to("data")
    assert below(tmp_path, everything(tmp_path / "link", tmp_path / "link")) == ["link/x"] * 2


def test_a_link_to_nothing_is_unreadable_and_says_where_it_leads(tmp_path: Path) -> None:
    """A dangling link, found or named, is reported with its target."""
    (tmp_path / "dangling").symlink_to("gone/away")
    expected = {"dangling": (Outcome.UNREADABLE, "a link to nothing: gone/away")}
    assert results(everything(tmp_path)) == expected
    assert results(everything(tmp_path / "dangling")) == expected


def test_a_link_to_itself_is_unreadable(tmp_path: Path) -> None:
    """The operating system's text is the reason."""
    (tmp_path / "loop").symlink_to("loop")
    outcome, reason = results(everything(tmp_path))["loop"]
    assert outcome is Outcome.UNREADABLE
    assert "symbolic links" in reason


# --- what is no file


def test_special_files_are_skipped_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO, which would block when opened, a socket, and links to devices are reported with their kinds."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert results(everything(tmp_path)) == {
            "fifo": (Outcome.SKIPPED, "a FIFO, not a regular file"),
            "null": (Outcome.SKIPPED, "a character device, not a regular file"),
            "socket": (Outcome.SKIPPED, "a socket, not a regular file"),
        }


def test_a_directory_that_cannot_be_listed_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported with the operating system's reason, and the walk continues."""
    plant(tmp_path, "a/x", "closed/y", "z/z")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = everything(tmp_path)
    assert below(tmp_path, found) == ["a/x", "closed", "z/z"]
    assert results(found)["closed"] == (Outcome.UNREADABLE, "a directory that cannot be listed: Permission denied")


@pytest.mark.parametrize("name", ["gone", "", "with\0nul", "\ud800"])
def test_a_name_from_a_list_that_is_no_file_is_unreadable(tmp_path: Path, name: str) -> None:
    """Names that do not or cannot exist become outcomes, and the names after them are found."""
    plant(tmp_path, "a")
    absent, present = everything(str(tmp_path / name) if name else "", tmp_path / "a")
    assert isinstance(absent, FileResult)
    assert (absent.outcome, absent.reason) == (Outcome.UNREADABLE, "no such file")
    assert location(present) == str(tmp_path / "a")


# --- before a run


def test_existing_sources_are_found(tmp_path: Path) -> None:
    """Files and directories, relative or absolute, are sources."""
    plant(tmp_path, "a")
    for name in (str(tmp_path), str(tmp_path / "a"), "."):
        find_source(name)


@pytest.mark.parametrize("name", ["gone", "", "dangling", "a/below"])
def test_a_missing_source_is_reported_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A misspelt argument stops the run before it starts; the message names it."""
    plant(tmp_path, "a")
    (tmp_path / "dangling").symlink_to("nothing")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=repr(name)):
        find_source(name)


def test_a_slow_list_is_passed_on_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If finding files is slow, an incomplete list is passed on."""
    for number in range(5):
        (tmp_path / f"{number}").touch()
    monkeypatch.setattr("bulkstow.source.walk.LIST_S", -1.0)
    assert [len(gathered) for gathered in lists(Walk([str(tmp_path)]))] == [1] * 5


# --- directories that are left out


def pruned(*names: str) -> Callable[[str], bool]:
    """Return a test for directories of these names."""
    return lambda path: Path(path).name in names


def test_a_pruned_directory_is_not_entered(tmp_path: Path) -> None:
    """It is counted; everything else is found."""
    plant(tmp_path, "1", ".snapshot/a/2", "b/.snapshot/3", "b/4", "snapshot/5")
    walk = Walk([str(tmp_path)], is_pruned=pruned(".snapshot"))
    assert below(tmp_path, [found for gathered in lists(walk) for found in gathered]) == ["1", "b/4", "snapshot/5"]
    assert walk.pruned_directories == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every directory")
def test_a_pruned_directory_that_cannot_be_listed_is_no_failure(tmp_path: Path) -> None:
    """It is not listed."""
    plant(tmp_path, "1", "closed/2")
    (tmp_path / "closed").chmod(0)
    try:
        assert results(everything(tmp_path))["closed"][0] is Outcome.UNREADABLE
        assert below(tmp_path, everything(tmp_path, is_pruned=pruned("closed"))) == ["1"]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_pruned_directory_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its listing may hang, or cost as much as the rest of the archive."""
    plant(tmp_path, "1", "large/2")
    opened: list[str] = []
    scandir = os.scandir

    def noted(path: str) -> Any:
        opened.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    everything(tmp_path, is_pruned=pruned("large"))
    assert opened == [str(tmp_path)]


def test_a_source_may_be_pruned(tmp_path: Path) -> None:
    """A source that is left out as a whole, or has only directories that are left out, is not empty."""
    plant(tmp_path, "old/1", "new/old/2")
    sources = [str(tmp_path / "old"), str(tmp_path / "new")]
    walk = Walk(sources, within=map(find_source, sources), is_pruned=pruned("old"))
    assert list(lists(walk)) == []
    assert (walk.pruned_directories, walk.empty_sources) == (2, [])


def test_a_link_to_a_directory_is_pruned_by_its_own_name(tmp_path: Path) -> None:
    """The name by which the walk reaches it decides."""
    plant(tmp_path, "archive/1", "elsewhere/2")
    (tmp_path / "archive/old").symlink_to(tmp_path / "elsewhere")
    archive = tmp_path / "archive"
    assert below(tmp_path, everything(archive, follow_links=True, is_pruned=pruned("old"))) == ["archive/1"]
    found = everything(archive, follow_links=True, is_pruned=pruned("elsewhere"))
    assert below(tmp_path, found) == ["archive/1", "archive/old/2"]
