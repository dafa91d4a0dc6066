"""Patterns of paths: which files and directories they match."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import ConfigurationError
from bulkstow.policy.globs import globs

SOURCE = "/tmp/archive"
NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("pattern", "path", "is_matched"),
    [
        # a name, at any depth
        ("*.dcm", "1.dcm", True),
        ("*.dcm", "a/b/1.dcm", True),
        ("*.dcm", "a/1.dcm.gz", False),
        ("*.dcm", "a/1.DCM", False),
        ("*.dcm", "a/.dcm", True),
        ("IM?", "a/IM1", True),
        ("IM?", "a/IM10", False),
        ("IM[0-9]", "a/IM1", True),
        ("IM[!0-9]", "a/IM1", False),
        ("*", "a/.hidden", True),
        ("**", "1.dcm", True),
        ("a/*", "a/b/1.dcm", True),
        ("a/*/", "a/1.dcm", False),
        (r"\*.dcm", "a/*.dcm", True),
        (r"\*.dcm", "a/1.dcm", False),
        ("#1", "a/#1", True),
        ("!1", "a/!1", True),
        ("[[]1]", "a/[1]", True),
        ("*.dcm", "a/two\nlines.dcm", True),
        ("lines", "a/two\nlines", False),
        ("*.dcm", "two\nlines/1.dcm", True),
        (f"{NOT_UTF8}*", f"a/{NOT_UTF8}.dcm", True),
        ("caf?.dcm", f"a/{NOT_UTF8}.dcm", True),
        # a directory, with everything below it
        (".snapshot", "a/.snapshot/b/1.dcm", True),
        (".snapshot", "a/.snapshots/1.dcm", False),
        (".snapshot/", "a/.snapshot/1.dcm", True),
        (".snapshot/", "a/.snapshot", False),
        ("CT/**", "a/CT/b/1.dcm", True),
        ("CT/**", "a/CT", False),
        # names at the end of the path
        ("CT/*.dcm", "a/CT/1.dcm", True),
        ("CT/*.dcm", "a/CT/b/1.dcm", False),
        ("CT/*.dcm", "a/XCT/1.dcm", False),
        ("CT/**/*.dcm", "a/CT/1.dcm", True),
        ("CT/**/*.dcm", "a/CT/b/c/1.dcm", True),
        ("**/tmp", "a/tmp/1.dcm", True),
        # the whole path
        ("/tmp/archive/old", "old/1.dcm", True),
        ("/tmp/archive/old", "a/old/1.dcm", False),
        ("/tmp/*/old", "old/1.dcm", True),
        ("/**/old", "a/old/1.dcm", True),
        ("/old", "old/1.dcm", False),
        ("/tmp", "a/1.dcm", True),
        # directories above the source do not count, its own name does
        ("tmp", "a/1.dcm", False),
        ("tmp/", "a/1.dcm", False),
        ("archive", "a/1.dcm", True),
        ("tmp/archive", "a/1.dcm", True),
        ("archive/*.dcm", "1.dcm", True),
        ("tmp/archive/a", "a/1.dcm", True),
    ],
)
def test_a_pattern_matches(pattern: str, path: str, is_matched: bool) -> None:
    """A name at any depth, the end of a path, or a whole path; a directory matches with everything below it."""
    for sources in ({SOURCE}, {SOURCE, "/other", f"{SOURCE}2"}):
        assert globs("--exclude", [pattern], frozenset(sources)).match(f"{SOURCE}/{path}") is is_matched


@pytest.mark.parametrize(
    ("pattern", "directory", "is_matched"),
    [
        (".snapshot", "a/.snapshot", True),
        (".snapshot/", "a/.snapshot", True),
        (".snapshot/**", "a/.snapshot", True),
        ("*", "a", True),
        ("**", "a", True),
        ("**/", "a", True),
        (".*/", "a/.snapshot", True),
        ("/tmp/archive/a/*", "a/b", True),
        (".snapshot/*.dcm", "a/.snapshot", False),
        ("**/tmp", "a/tmp", True),
        ("a/tmp", "a/tmp", True),
        ("b/tmp", "a/tmp", False),
        ("*.dcm", "a/tmp", False),
        ("tmp", "a", False),
    ],
)
def test_a_pattern_matches_a_directory(pattern: str, directory: str, is_matched: bool) -> None:
    """A directory matches if everything below it does."""
    compared = globs("--exclude", [pattern], frozenset([SOURCE]))
    assert compared.match_directory(f"{SOURCE}/{directory}") is is_matched
    assert compared.match(f"{SOURCE}/{directory}/any name") is is_matched


@pytest.mark.parametrize(
    ("sources", "is_matched"),
    [
        ([], True),
        (["/data/tmp/archive"], False),
        (["/data/tmp"], True),
        (["/data"], True),
        (["/"], True),
        (["/", "/data/tmp/archive"], True),
        (["/data", "/data/tmp/archive"], True),
        (["/data/tmp/archive/1.dcm"], False),
        (["/data/tm", "/data/tmp/arch"], True),
    ],
)
def test_directories_above_a_source_do_not_count(sources: list[str], is_matched: bool) -> None:
    """A path below no source, as in a list of files, is compared from the root."""
    assert globs("--exclude", ["tmp"], frozenset(sources)).match("/data/tmp/archive/1.dcm") is is_matched


def test_a_source_that_is_a_file_is_compared_by_its_own_names() -> None:
    """Its path may match as a whole; only directories above it do not count by themselves."""
    sources = frozenset(["/data/CT/1.dcm"])
    assert globs("--include", ["CT/*.dcm"], sources).match("/data/CT/1.dcm")
    assert not globs("--include", ["CT"], sources).match("/data/CT/1.dcm")


def test_a_location_that_is_no_path_is_compared_by_its_names() -> None:
    """The locations of a source that is no file system begin with a scheme."""
    assert globs("--include", ["*.dcm"]).match("s3://bucket/a/1.dcm")
    assert globs("--include", ["a/*.dcm"]).match("s3://bucket/a/1.dcm")
    assert not globs("--include", ["b/*.dcm"]).match("s3://bucket/a/1.dcm")


def test_one_of_several_patterns_is_enough() -> None:
    """Without patterns nothing matches."""
    several = globs("--include", ["*.dcm", "/data/ima"])
    assert several
    assert [several.match(path) for path in ("/x/1.dcm", "/data/ima/1", "/x/1")] == [True, True, False]
    assert not globs("--include", [])
    assert not globs("--include", []).match("/x/1.dcm")


@pytest.mark.parametrize("pattern", ["", " ", "/", "//", "a\\", "[a", "[z-a]", "./a", "a/../b", ".", "/a/."])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    """The message has the flag, the pattern and an example."""
    with pytest.raises(ConfigurationError, match=r"--include .*: expected a pattern such as"):
        globs("--include", [pattern])


_NAMES = st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=4)


@given(_NAMES, st.sampled_from(["a", "*a", "a/b", "**/a", "a/**", "a/*", "/s/a", "?", "[ab]", "a/**/b", "*"]))
def test_a_directory_matches_with_everything_below_it(names: list[str], pattern: str) -> None:
    """So a directory that is not entered has no file that would be selected."""
    compared = globs("--exclude", [pattern], frozenset(["/s"]))
    path = "/".join(["/s", *names])
    if compared.match_directory(path):
        assert compared.match(f"{path}/z")
        assert compared.match_directory(f"{path}/z/y")
