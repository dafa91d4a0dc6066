"""Orthancs for tests, and what each test sends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.orthanc import archives
from tests.orthanc.servers import Answer, Orthanc

PLUGIN = "libOrthancDicomWeb.so"

PLUGIN_PLACES = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins", "/usr/lib/orthanc")
"""Debian's, the Docker images', and where builds from source put it."""

REQUIRED = "BULKSTOW_REQUIRE_ORTHANC"

StartOrthanc = Callable[..., Orthanc]
"""Starts an Orthanc with no data; takes `users` and `lua`."""


@pytest.fixture(scope="session")
def start_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartOrthanc]:
    """Give a function that starts Orthancs; they end with the session."""
    program = shutil.which("Orthanc")
    plugin = next((path for place in PLUGIN_PLACES if (path := Path(place) / PLUGIN).exists()), None)
    if program is None or plugin is None:
        missing = "the program Orthanc is" if program is None else f"Orthanc's DICOMweb plugin ({PLUGIN}) is"
        word = f"{missing} not installed: apt-get install orthanc orthanc-dicomweb"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {word}", pytrace=False)
        pytest.skip(word)

    with ExitStack() as stack:

        def start(*, users: dict[str, str] | None = None, lua: str = "") -> Orthanc:
            orthanc = Orthanc(program, plugin, tmp_path_factory.mktemp("orthanc"), users or {}, lua)
            stack.callback(orthanc.kill)
            orthanc.start()
            return orthanc

        yield start


@pytest.fixture
def orthanc(start_orthanc: StartOrthanc) -> Iterator[Orthanc]:
    """Give an Orthanc with no data."""
    orthanc = start_orthanc()
    yield orthanc
    orthanc.kill()


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the tree with everything in it; nobody may change it."""
    directory = tmp_path_factory.mktemp("mixed") / "archive"
    archives.mixed(directory)
    return directory


@dataclass(frozen=True, slots=True)
class Alone:
    """What Orthanc does with each file of a tree when it is posted alone."""

    answers: dict[str, Answer]
    instances: frozenset[str]
    """SOP Instance UIDs that Orthanc then holds."""


@pytest.fixture(scope="session")
def alone(start_orthanc: StartOrthanc, mixed: Path) -> Alone:
    """Give the verdict on each file of the mixed tree, by an Orthanc that bulkstow never sees."""
    orthanc = start_orthanc()
    answers = {path: orthanc.store_alone(Path(path).read_bytes()) for path in archives.files_below(mixed)}
    instances = orthanc.instances()
    orthanc.kill()
    assert {uid for answer in answers.values() for uid in answer.listed} == instances
    return Alone(answers, instances)
