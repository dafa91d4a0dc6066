"""Which shard a file belongs to."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.policy.sharding import Place, Sharding, ShardLevel
from bulkstow.quantities import Shard

NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=5).filter(lambda name: name not in "..")
PATHS = st.lists(NAMES, max_size=6)
LEVELS: st.SearchStrategy[ShardLevel] = st.one_of(st.just("auto"), st.just("file"), st.integers(1, 7))
COUNTS = st.integers(1, 40)


def owns(sharding: Sharding, path: str) -> bool:
    """Return whether the walk of a shard finds a file at a path below a source."""
    *directories, name = path.split("/")
    return reaches(sharding.root, directories, name)


def reaches(place: Place, directories: Sequence[str], name: str) -> bool:
    """Return whether the walk of a shard finds a file in some directories below a place."""
    for directory in directories:
        if not place.is_entered:
            return False
        place = place.below(directory)
    return place.owns_file(name)


def owners(count: int, level: ShardLevel, is_owned: Callable[[Sharding], bool]) -> list[int]:
    """Return the numbers of the shards that own something."""
    shards = (Shard(number, count) for number in range(1, count + 1))
    return [shard.number for shard in shards if is_owned(Sharding(shard, level))]


def owner(path: str, count: int, level: ShardLevel = "auto") -> int:
    """Return the number of the shard that owns a file below a source."""
    (number,) = owners(count, level, lambda sharding: owns(sharding, path))
    return number


@given(PATHS, NAMES, LEVELS, COUNTS)
def test_each_file_is_in_one_shard(directories: list[str], name: str, level: ShardLevel, count: int) -> None:
    """The parts are disjoint and complete for every number of shards and every level, in any depth."""
    assert len(owners(count, level, lambda sharding: reaches(sharding.root, directories, name))) == 1


@given(PATHS, NAMES, PATHS, NAMES, LEVELS, COUNTS)
def test_a_followed_link_is_in_one_shard(
    above: list[str], link: str, below: list[str], name: str, level: ShardLevel, count: int
) -> None:
    """All that is found through a link to a directory is in one shard, whatever the level."""

    def is_owned(sharding: Sharding, below: Sequence[str], name: str) -> bool:
        place = sharding.root
        for directory in above:
            place = place.below(directory)
        return place.is_entered and reaches(place.behind_link(link), below, name)

    found = owners(count, level, lambda sharding: is_owned(sharding, below, name))
    assert len(found) == 1
    assert found == owners(count, level, lambda sharding: is_owned(sharding, [*below, "deeper"], "other"))


@given(PATHS, NAMES, LEVELS, COUNTS)
def test_each_name_of_a_list_is_in_one_shard(directories: list[str], name: str, level: ShardLevel, count: int) -> None:
    """A file in a list is in one shard; a directory in it is in one shard with all that is below it."""
    written = "/".join(["", *directories, name])
    assert len(owners(count, level, lambda sharding: sharding.owns_listed(written))) == 1
    whole = owners(count, level, lambda sharding: reaches(sharding.listed(written), ["a", "b"], "file"))
    assert whole == owners(count, level, lambda sharding: sharding.listed(written).is_entered)
    assert len(whole) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("STUDY/IM1", "STUDY/IM2"),
        ("STUDY/SERIES1/IM", "STUDY/SERIES2/IM"),
        ("STUDY/IM", "STUDY/SERIES/IM"),
        ("PATIENT/STUDY1/IM", "PATIENT/STUDY2/IM"),
        ("PATIENT/STUDY/SERIES1/IM", "PATIENT/STUDY/SERIES2/IM"),
        ("2026/11/29/STUDY/SERIES1/IM", "2026/11/29/STUDY/SERIES2/IM"),
        ("2026/11/29/STUDY1/IM", "2026/11/29/STUDY2/IM"),
        ("IM1", "IM2"),
    ],
)
def test_studies_stay_whole(one: str, other: str) -> None:
    """Without a level, files in one directory, and in the directories directly in one, are in the same shard."""
    assert owner(one, 1009) == owner(other, 1009)


@pytest.mark.parametrize(
    ("level", "one", "other", "together"),
    [
        ("auto", "STUDY1/IM", "STUDY2/IM", False),
        ("auto", "P/STUDY1/SERIES/IM", "P/STUDY2/SERIES/IM", False),
        (1, "P/STUDY1/SERIES/IM", "P/STUDY2/SERIES/IM", True),
        (2, "P/STUDY1/SERIES/IM", "P/STUDY2/SERIES/IM", False),
        (2, "P/STUDY/SERIES1/IM", "P/STUDY/SERIES2/IM", True),
        (2, "DICOM/STUDY1/IM", "DICOM/STUDY2/IM", False),
        (2, "STUDY/IM1", "STUDY/IM2", True),
        (9, "P/STUDY/SERIES1/IM", "P/STUDY/SERIES2/IM", False),
        (9, "P/STUDY/SERIES/IM1", "P/STUDY/SERIES/IM2", True),
        (9, "IM1", "IM2", True),
        ("file", "IM1", "IM2", False),
        ("file", "STUDY/IM1", "STUDY/IM2", False),
    ],
)
def test_the_level_decides(level: ShardLevel, one: str, other: str, together: bool) -> None:
    """A number is so many directories, or all if there are fewer; `file` divides a flat directory."""
    assert (owner(one, 1009, level) == owner(other, 1009, level)) is together


KNOWN = [
    ("STUDY/IM", "auto", 16, 2),
    ("1.2.840.113619/SERIES 1/IM0001", "auto", 16, 1),
    ("PATIENT/STUDY/SERIES/IM", "auto", 16, 14),
    ("PATIENT/STUDY/SERIES/IM", 1, 16, 11),
    ("PATIENT/STUDY/SERIES/IM", "file", 3, 2),
    ("é\udcff/IM", "auto", 100, 18),
    ("IM", "auto", 16, 5),
]


@pytest.mark.parametrize(("path", "level", "count", "number"), KNOWN)
def test_the_choice_never_changes(path: str, level: ShardLevel, count: int, number: int) -> None:
    """Another choice in a later version would send files again, to which no ledger of the earlier one is a match."""
    assert owner(path, count, level) == number


def test_names_that_macos_decomposes_are_the_same() -> None:
    """One archive may be mounted on Linux and on macOS."""
    name = "Müller/ST/SE/IM"
    assert unicodedata.normalize("NFD", name) != name
    assert owner(unicodedata.normalize("NFD", name), 1009) == owner(name, 1009)


def test_the_way_of_writing_a_name_of_a_list_does_not_matter() -> None:
    """Slashes and dots at either end are ignored, as `find` and shells write them."""
    for sharding in (Sharding(Shard(number, 1009)) for number in range(1, 1010)):
        assert sharding.owns_listed("./a/b//c/IM") == sharding.owns_listed("a/b/c/IM")
        assert sharding.listed("./a/b/").is_entered == sharding.listed("a/b").is_entered


@pytest.mark.parametrize("count", [2, 3, 16, 40])
def test_shards_are_even(count: int) -> None:
    """Of 1,000 studies for each shard, each has about that number: 4 standard deviations are 13 %."""
    studies = [f"PATIENT{number // 3}/STUDY{number}/SERIES/IM" for number in range(1000 * count)]
    for number in {1, count // 2, count}:
        sharding = Sharding(Shard(number, count))
        assert 870 < sum(owns(sharding, study) for study in studies) < 1130


@settings(max_examples=20)
@given(st.integers(1, 7), st.lists(NAMES, min_size=7, max_size=7))
def test_directories_of_other_shards_are_not_entered(level: int, directories: list[str]) -> None:
    """With a number as level, a shard enters no directory of that depth that is not its own."""
    count = 7
    entered = 0
    for number in range(1, count + 1):
        place = Sharding(Shard(number, count), level).root
        for directory in directories[:level]:
            assert place.is_entered
            place = place.below(directory)
        entered += place.is_entered
    assert entered == 1
