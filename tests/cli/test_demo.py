"""`bulkstow demo`: an upload from start to end in a few seconds."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from bulkstow.cli.demo import make_archive, what_next
from bulkstow.ledger import read_entries
from tests.cli.command import PATIENCE_S, call
from tests.server.samples import files_below


@pytest.mark.parametrize("instances", [1, 25])
def test_it_shows_what_it_promises(capsys: pytest.CaptureFixture[str], instances: int) -> None:
    """The demo shows an archive with junk, two runs, the second without requests, a report, and what to try next."""
    ended = call(capsys, "demo", "top dir", "--instances", str(instances))
    assert (ended.status, ended.err) == (0, "")
    out = ended.out
    assert f"1. An archive of {instances + 8} files, some of them junk: top dir/archive" in out
    assert "2. Uploading to a STOW-RS server in this process: http://127.0.0.1:" in out
    assert "3. The same command again: only files without a final outcome would be sent." in out
    assert f"\nstored {instances:>17} " in out
    assert " and the second 0; the 3 files that failed would make `bulkstow upload` end with status 1." in out
    for reason in ("not DICOM", "a DICOMDIR", "empty", "same bytes", "other bytes", "cut off"):
        assert reason in out.partition("4. What was not stored, and why:")[2]


def test_everything_is_stored_under_the_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The archive's instances are in `stored`, byte for byte, and every file is in the ledger."""
    call(capsys, "demo", "top", "--instances", "25")
    archive = {path.read_bytes() for path in Path("top/archive").rglob("IM*") if path.suffix == ""}
    assert {path.read_bytes() for path in Path("top/stored").rglob("*.dcm")} == archive
    assert len(archive) == 25
    entries = {entry.result.candidate.location for entry in read_entries(Path("top/bulkstow.db"))}
    assert entries == {str(path) for path in (tmp_path / "top" / "archive").rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", ["module", "script"])
def test_every_command_works_as_printed(tmp_path: Path, way: str) -> None:
    """The commands work in a new shell in another directory, without a virtual environment, with spaces in a name."""
    script = Path(sys.executable).with_name("bulkstow")
    if way == "script" and not script.exists():
        pytest.skip("not installed")
    program = [str(script)] if way == "script" else [sys.executable, "-m", "bulkstow"]
    demo = subprocess.run(
        [*program, "demo", "top dir", "--instances", "3"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    commands = [line[2:] for line in demo.stdout.partition("Try next.")[2].splitlines() if line.startswith("  ")]
    assert [command.split()[-1].rpartition("/")[2] for command in commands if command.startswith("rm")] == ["dir'"]
    pasted = "\n".join(f'{command}\necho "status $?"' for command in commands)
    shell = subprocess.run(
        ["sh"], input=pasted, capture_output=True, text=True, timeout=PATIENCE_S, cwd="/", env={"PATH": "/usr/bin:/bin"}
    )
    statuses = [int(line.split()[1]) for line in shell.stdout.splitlines() if line.startswith("status ")]
    assert statuses == [0, 1, 0, 0, 0, 0], shell.stderr  # three files of the archive are never stored
    assert "stored                 3" in shell.stdout
    assert not (tmp_path / "top dir").exists()


def test_a_port_that_is_taken_is_not_advised() -> None:
    """The printed commands use a free port."""
    with socket.create_server(("127.0.0.1", 8080)) if is_free(8080) else nullcontext():
        assert "--port 8080 " not in what_next(Path("top"), "bulkstow")


def is_free(port: int) -> bool:
    """Return whether no server listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_directory_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a directory the demo creates a temporary one, and shows how to remove it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = call(capsys, "demo", "--instances", "1")
    (made,) = tmp_path.glob("bulkstow-demo-*")
    assert ended.out.endswith(f"\n  rm -r {made}\n")


def test_the_same_archive_every_time(tmp_path: Path) -> None:
    """Two archives are equal."""
    counts = [make_archive(tmp_path / name, 61) for name in ("one", "two")]
    one, two = (files_below(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert counts == [69, 69] == [len(one), len(two)]
