"""Filters from their settings: the file of studies, names of SOP classes, and invalid values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.config import SelectionSettings
from bulkstow.days import parse_days
from bulkstow.engine.selection import read_selection, read_studies, sop_class_uid
from bulkstow.errors import ConfigurationError
from bulkstow.model import Candidate
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import EVERYTHING, Filter, Selection

CT = "1.2.840.10008.5.1.4.1.1.2"


async def read(*sources: str, **settings: Any) -> Selection:
    """Return the filters of some settings."""
    with WorkerThreads(1) as threads:
        return await read_selection(SelectionSettings(**settings), sources, threads.calls, ReadLimit(20))


@pytest.mark.anyio
async def test_settings_become_filters(tmp_path: Path) -> None:
    """Modalities in capitals, the age in nanoseconds, UIDs of studies and classes; without a setting no filter."""
    studies = tmp_path / "studies"
    studies.write_text("1.2\n")
    days = parse_days("2020")
    assert await read() == EVERYTHING
    assert await read(
        modality=("ct", "MR", "none"),
        study_date=days,
        sop_class=("CTImageStorage", "1.2.3"),
        studies=studies,
        min_age_s=0.5,
        max_size_bytes=7,
    ) == Selection(
        modalities=frozenset(["CT", "MR", ""]),
        study_dates=days,
        sop_classes=frozenset([CT, "1.2.3"]),
        studies=frozenset(["1.2"]),
        min_age_ns=500_000_000,
        max_size_bytes=7,
    )


@pytest.mark.anyio
async def test_patterns_are_compared_from_the_sources_on() -> None:
    """An archive below a directory of a name that is excluded is selected nevertheless."""
    selection = await read("/tmp/archive", include=("*.dcm",), exclude=("tmp",))
    paths = ["/tmp/archive/1.dcm", "/tmp/archive/tmp/1.dcm", "/tmp/archive/1.txt"]
    filters = [selection.filter_of(Candidate(path, 1, 0), 0) for path in paths]
    assert filters == [None, Filter.EXCLUDE, Filter.INCLUDE]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"include": ("",)}, "--include '': expected a pattern such as *.dcm"),
        ({"exclude": ("*.dcm", "[a")}, "--exclude '[a': expected a pattern such as *.dcm"),
        ({"sop_class": ("CTImage",)}, "--sop-class CTImage: expected a UID, or a keyword of PS3.6 such as CTImageSto"),
        ({"sop_class": ("ExplicitVRLittleEndian",)}, "--sop-class ExplicitVRLittleEndian: expected a UID"),
        ({"studies": Path("/no/such/list")}, "--studies /no/such/list: cannot be read (No such file or directory)"),
        ({"studies": Path("/")}, "--studies /: cannot be read (Is a directory)"),
    ],
)
async def test_what_cannot_be_used_is_refused(settings: dict[str, Any], message: str) -> None:
    """The message names the setting, its value and the expected form."""
    with pytest.raises(ConfigurationError) as caught:
        await read(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3\n1.2.4\n", {"1.2.3", "1.2.4"}),
        ("1.2.3", {"1.2.3"}),
        ("\n  1.2.3  \r\n\n# 1.2.5\n1.2.4 # of last week\n1.2.3\n", {"1.2.3", "1.2.4"}),
        ("\ufeff1.2.3\n", {"1.2.3"}),
        (f"1.{'2' * 62}\n", {f"1.{'2' * 62}"}),
    ],
)
def test_a_file_of_studies_is_read(tmp_path: Path, text: str, expected: set[str]) -> None:
    """One UID per line; spaces, blank lines, comments and repeated lines do not count."""
    path = tmp_path / "studies"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_studies(path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1.2.3\n\nStudyInstanceUID\n", "line 3, 'StudyInstanceUID', is no Study Instance UID"),
        (b"1.2.3,1.2.4\n", "line 1, '1.2.3,1.2.4', is no Study Instance UID"),
        (b"1." + b"2" * 63, "is no Study Instance UID"),
        (b"caf\xe9\n", "line 1, 'caf\ufffd', is no Study Instance UID"),
        (b"", "has no Study Instance UID; expected one per line"),
        (b"# none\n\n", "has no Study Instance UID; expected one per line"),
    ],
)
def test_a_file_that_is_no_list_of_studies_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message has the number of the line: a list that is read in part would leave out studies in silence."""
    path = tmp_path / "studies"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_studies(path)
    assert str(caught.value).startswith(f"--studies {path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("word", "uid"),
    [
        ("CTImageStorage", CT),
        ("EncapsulatedPDFStorage", "1.2.840.10008.5.1.4.1.1.104.1"),
        (CT, CT),
        ("1.3.6.1.4.1.5962", "1.3.6.1.4.1.5962"),
    ],
)
def test_sop_classes_have_names(word: str, uid: str) -> None:
    """A keyword of the standard, or any UID, as there are private classes."""
    assert sop_class_uid(word) == uid


def test_libraries_are_imported_for_their_filters_only() -> None:
    """pydicom and pathspec take a part of a second, which an upload without these filters does not spend."""
    code = (
        "import sys; from bulkstow.engine.selection import sop_class_uid, globs; "
        "sop_class_uid('1.2'); globs('--include', []); print({'pydicom', 'pathspec'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
