"""What is published: the files of wheel and sdist, their metadata, and words that are true wherever they are read."""

from __future__ import annotations

import email
import re
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with wheel and sdist, built as pip builds them, but for the environment of its own."""
    pytest.importorskip("hatchling", reason="the extra dev has it")
    from hatchling import build

    directory = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build.build_wheel(str(directory))
        build.build_sdist(str(directory))
    return directory


def wheel_of(built: Path) -> tuple[set[str], Message]:
    """Return the names in the wheel, and its metadata."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        return names, email.message_from_string(wheel.read(metadata).decode())


def test_a_wheel_has_the_package_and_its_licence(built: Path) -> None:
    """Nothing of tests and benchmarks; types, and what the report is made of, are there."""
    names, _ = wheel_of(built)
    assert {name.partition("/")[0] for name in names} == {"bulkstow", "bulkstow-0.1.0.dist-info"}
    assert {"bulkstow/py.typed", "bulkstow/pages/base.css", "bulkstow/report/page.css"} <= names
    assert {f"bulkstow/bench/report/page.{kind}" for kind in ("css", "js")} <= names
    assert "bulkstow-0.1.0.dist-info/licenses/LICENSE" in names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "bulkstow").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


def test_the_metadata_says_what_is_so(built: Path) -> None:
    """Licence, versions of Python, README; no URL as long as there is no home."""
    _, metadata = wheel_of(built)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata.get_all("Project-URL") is None
    assert metadata["Description-Content-Type"] == "text/markdown"
    minors = [
        int(line.rpartition(".")[2]) for line in metadata.get_all("Classifier", []) if re.search(r":: 3\.\d+$", line)
    ]
    assert minors == list(range(11, 14))
    assert metadata["Requires-Python"] == ">=3.11"


def test_an_sdist_can_be_built_and_tested(built: Path) -> None:
    """It has what the README names, and nothing that was made on the way, nor pictures."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "config.example.toml", ".ci/run"} <= names
    assert {"tests/conftest.py", "benchmarks/__main__.py", "bulkstow/__init__.py"} <= names
    kinds = {Path(name).suffix for name in names}
    assert kinds <= {".py", ".md", ".toml", ".css", ".js", ".typed", ".sh", ".html", ".sqlite", ".c", ""}
    assert path.stat().st_size < 2**21


def test_the_readme_is_whole_wherever_it_is_shown() -> None:
    """On a page of a package index a relative link leads nowhere, and a relative picture is none."""
    links = re.findall(r"\]\(([^)]*)\)|(?:src|href)=[\"']([^\"']*)", README)
    assert [link for link in map("".join, links) if not link.startswith(("https://", "#"))] == []


def test_every_path_that_the_readme_names_is_there() -> None:
    """Paths are written without links, so no reader finds out by clicking."""
    named = set(re.findall(r"`((?:bulkstow|tests|benchmarks)/[\w./-]+|[\w.-]+\.(?:toml|md))`", README))
    assert {name for name in named if not (ROOT / name).exists()} == set()
    assert "config.example.toml" in named


def advice() -> list[str]:
    """Return what is to be given to pip, as code and README advise."""
    sources = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "bulkstow").rglob("*.py"))]
    return [
        word
        for source in sources
        for line in re.findall(r"pip install ((?:[-\w.\[\],>=]+|'[^']*'| )+)", source)
        for word in re.findall(r"'([^']*)'|(\S+)", line.partition(" in ")[0].partition(", or")[0])
        for word in word
        if word and not word.startswith("-")
    ]


def test_what_is_advised_to_install_can_be_installed() -> None:
    """From a checkout by its path, and else by the name of a package of others: ours is in no index yet."""
    extras = PROJECT["optional-dependencies"]
    entries = [*PROJECT["dependencies"], *(entry for extra in extras.values() for entry in extra)]
    others = {re.split(r"[<>=\[;]", entry)[0] for entry in entries}
    found = advice()
    assert ".[bench]" in found
    for word in found:
        checkout = re.fullmatch(r"\.(?:\[([\w,]+)\])?", word)
        assert word in others or (checkout and set((checkout[1] or "dev").split(",")) <= set(extras)), word


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    """The newest is on top, sections are those of the form, and the version that is published has one."""
    heads = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }
