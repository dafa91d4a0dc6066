"""The commands on a system that has only what all systems have (see `bare_system`)."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.archives import write_batch
from tests.platform.bare_system import ATTRIBUTES, SYSTEM_MODULES

SCRIPT = Path(__file__).with_name("bare_system.py")
PACKAGE = Path(__file__).parents[2] / "bulkstow"
TIMEOUT_S = 120
"""A process that takes longer hangs; the demo takes 3 s on an idle machine."""


@contextmanager
def started(directory: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command without what is not everywhere, and end it with the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BULKSTOW_")}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", SCRIPT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env={**clean, "PYTHONPATH": str(PACKAGE.parent), "TMPDIR": str(directory), "NO_PROXY": "*"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(directory: Path, *words: str) -> str:
    """Run a command that must succeed, and return its standard output."""
    with started(directory, *words) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
        return out


def test_the_demo(tmp_path: Path) -> None:
    """The second run sends nothing of what the first one stored."""
    out = run(tmp_path, "demo")
    assert re.search(r"The first run sent \d+ requests and the second 0;", out), out


def test_an_upload_and_its_report(tmp_path: Path) -> None:
    """Every instance arrives unchanged, the report has all of them as stored, and a second run has nothing to do."""
    sizes = [(3, 16), (2, 128), (2, 1024)]
    for study, (count, rows) in enumerate(sizes, 1):
        write_batch(tmp_path / "archive" / f"{study}", count, study=study, rows=rows, columns=rows)
    with started(tmp_path, "serve", "kept", "--port", "0") as server:
        assert server.stdout is not None
        url = re.findall(r"http://127\.0\.0\.1:\d+\S*", server.stdout.readline())[0]
        upload = ("upload", "archive", "--url", url, "--summary", "summary.json", "--log", "log")
        run(tmp_path, *upload)
        first = json.loads((tmp_path / "summary.json").read_text())
        run(tmp_path, *upload)
        second = json.loads((tmp_path / "summary.json").read_text())
    sent = Counter(path.read_bytes() for path in (tmp_path / "archive").rglob("IM*"))
    assert Counter(path.read_bytes() for path in (tmp_path / "kept").rglob("*.dcm")) == sent
    assert first["outcomes"]["stored"] == second["outcomes"]["stored"] == second["settled_before"] == sent.total()
    assert (first["requests"] > 0, second["requests"]) == (True, 0)
    entries = [json.loads(line) for line in run(tmp_path, "report", "bulkstow.db", "--format", "jsonl").splitlines()]
    assert Counter(entry["outcome"] for entry in entries) == {"stored": sent.total()}
    assert not list(tmp_path.glob("bulkstow.db-lock"))


def test_only_one_package_uses_what_is_not_everywhere() -> None:
    """No module outside of `platform` names what `bare_system` takes away."""
    modules = [path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "platform")]
    assert [use for path in modules for use in uses(path)] == []


def uses(path: Path) -> Iterator[str]:
    """Yield what a module uses of the names that `bare_system` takes away."""
    names = {f"{module.lstrip('_')}.{name}" for module, listed in ATTRIBUTES.items() for name in listed.split()}
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=imported):
                found = [alias.name for alias in imported]
            case ast.ImportFrom(module=module, names=imported):
                found = [str(module), *(f"{module}.{alias.name}" for alias in imported)]
            case ast.Attribute(value=ast.Name(id=module), attr=attribute):
                found = [f"{module}.{attribute}"]
            case ast.Constant(value=str(text)):
                found = [text]
            case _:
                continue
        yield from (
            f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}"
            for name in found
            if name in names or name in SYSTEM_MODULES or name.startswith("/proc")
        )
