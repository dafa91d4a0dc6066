"""The names of sources: each file is found once, and no secret is in them."""

from __future__ import annotations

import pytest

from bulkstow.engine.names import distinct, paths_among
from bulkstow.errors import ConfigurationError


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((), []),
        (("a", "b"), ["a", "b"]),
        (("a", "a"), ["a"]),
        (("a", "./a", "b/../a"), ["b/../a"]),
        (("a", "a/b", "a/b/c"), ["a"]),
        (("a/b/c", "a/b", "a"), ["a"]),
        (("a/b", "ab", "a/bc"), ["a/b", "ab", "a/bc"]),
        (("/", "a"), ["/"]),
        ((".", "a", ".."), [".."]),
        (("a/", "a"), ["a"]),
    ],
    ids=["none", "apart", "twice", "spelled otherwise", "below", "above", "alike", "root", "dots", "slash"],
)
def test_sources_in_each_other(sources: tuple[str, ...], expected: list[str]) -> None:
    """A source that is the same as another, or below it, is left out, as its files are found there."""
    assert distinct(sources) == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dicomweb+https://ada:s3cret@pacs/dicom-web", "use --source-user"),
        (
            "dicomweb+https://pacs/dicom-web?token=s3cret",
            "dicomweb+https://pacs/dicom-web…: a DICOMweb root has no query",
        ),
        ("dicomweb+https://pacs/dicom-web#s3cret", "leave out"),
        ("s3://key:s3cret@archive/2024", "use the login of the cloud's tools"),
    ],
)
def test_a_name_with_a_secret_is_refused(name: str, says: str) -> None:
    """The ledger keeps the names of a run, so it is refused before a ledger is opened; the message has no secret."""
    with pytest.raises(ConfigurationError, match=r"leave out|which would be seen") as refused:
        paths_among(("dicomweb+https://pacs/dicom-web", name) if name.startswith("dicomweb") else (name,))
    assert says in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_names_of_files_and_keys_of_objects_may_have_any_character() -> None:
    """Only the part of a name that may have a login is looked at."""
    assert paths_among(("a@b?c#d", "./s3:/x@y")) == ("a@b?c#d", "./s3:/x@y")
    assert paths_among(("s3://archive/a@b?c#d",)) == ()
