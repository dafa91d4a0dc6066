"""`bulkstow upload --shard`: several processes send the parts of one archive, each with its own ledger."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkstow.ledger import read_entries
from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance
from tests.cli.command import Ended, call, served

STUDIES = 24
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
def url(storage: DiscardStorage) -> Iterator[str]:
    """Give a server."""
    with served(storage) as url:
        yield url


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of studies with two series of one instance each, in directories of patients."""
    for study in range(1, STUDIES + 1):
        for series in (1, 2):
            write_instance(tmp_path / f"archive/P{study % 5}/ST{study}/SE{series}", series, study=study)
    return tmp_path / "archive"


def upload(capsys: pytest.CaptureFixture[str], url: str, shard: str, *words: str) -> Ended:
    """Send a shard with a ledger and a summary of its own, named by its number."""
    number = shard.partition("/")[0]
    own = () if "--ledger" in words else ("--ledger", f"{number}.db")
    figures = ("--summary", f"{number}.json")
    return call(capsys, "upload", "archive", "--url", url, "--shard", shard, *own, *figures, *words)


def stored(number: int) -> set[str]:
    """Return the paths in the ledger of a shard."""
    return {entry.result.candidate.location for entry in read_entries(Path(f"{number}.db"))}


@pytest.mark.usefixtures("archive")
def test_the_shards_send_the_archive_once(
    capsys: pytest.CaptureFixture[str], url: str, storage: DiscardStorage, archive: Path
) -> None:
    """Together they send every file, none of them twice, and studies whole; each names itself and counts its part."""
    for number in (1, 2, 3):
        ended = upload(capsys, url, f"{number}/3")
        assert (ended.status, ended.out.splitlines()[0]) == (0, f"shard {number}/3 of the source")
        summary = json.loads(Path(f"{number}.json").read_text())
        assert summary["shard"] == f"{number}/3"
        assert summary["outcomes"]["stored"] == len(stored(number)) == 2 * summary["studies"] > 0
    files = {str(path) for path in archive.rglob("IM*")}
    assert len(files) == sum(len(stored(number)) for number in (1, 2, 3))
    assert files == stored(1) | stored(2) | stored(3)
    assert len(storage.digests()) == 2 * STUDIES
    reported = call(capsys, "report", "1.db", "2.db", "3.db")
    assert reported.out.splitlines()[-2:] == [f"{2 * STUDIES} stored", "from 3 ledgers"]
    assert json.loads(Path("1.json").read_text())["requests"] > 0
    upload(capsys, url, "1/3")
    assert json.loads(Path("1.json").read_text())["requests"] == 0, "a repeated run sends nothing"


def test_a_shard_without_files_is_no_failure(capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path) -> None:
    """Of more shards than studies some are empty, which has exit status 0; an empty archive is a failure of each."""
    write_instance(tmp_path / "archive/ST", 1)
    ended = [upload(capsys, url, f"{number}/5") for number in range(1, 6)]
    assert [one.status for one in ended] == [0] * 5
    told = "no file of the source is in this shard; if most shards have none, give another --shard-level"
    assert sum(told in one.out for one in ended) == 4
    for path in (tmp_path / "archive/ST").iterdir():
        path.unlink()
    (tmp_path / "archive/ST").rmdir()
    ended = [upload(capsys, url, f"{number}/5") for number in range(1, 6)]
    assert [one.status for one in ended] == [1] * 5
    assert all("no file found in" in one.out for one in ended)


def test_one_ledger_may_have_several_shards(capsys: pytest.CaptureFixture[str], url: str, archive: Path) -> None:
    """The number of shards may change: what a ledger has is not sent again."""
    for shard in ("1/2", "2/2", "1/1"):
        assert upload(capsys, url, shard, "--ledger", "all.db").status == 0
    summary = json.loads(Path("1.json").read_text())
    assert (summary["settled_before"], summary["requests"]) == (2 * STUDIES, 0)


def test_the_level_decides(capsys: pytest.CaptureFixture[str], url: str, archive: Path) -> None:
    """With level 1 the five patients stay whole."""
    for number in (1, 2, 3):
        assert upload(capsys, url, f"{number}/3", "--shard-level", "1").status == 0
    patients = [{Path(path).relative_to(archive).parts[0] for path in stored(number)} for number in (1, 2, 3)]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 5


def test_the_same_instance_in_two_shards_is_sent_by_both(
    capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path
) -> None:
    """No ledger knows of the other; within each, one file is sent and the copies are skipped."""
    for directory in range(8):
        write_instance(tmp_path / f"archive/ST{directory}", 1)
    for number in (1, 2):
        assert upload(capsys, url, f"{number}/2").status == 0
    reported = call(capsys, "report", "1.db", "2.db").out.splitlines()
    assert sorted(reported[-3].split(", ")) == ["2 stored", "6 skipped"]
    assert reported[-1] == "1 SOP instance with files in several ledgers: no run has compared them"
    outcomes = [entry.result.outcome for number in (1, 2) for entry in read_entries(Path(f"{number}.db"))]
    assert sorted(outcomes) == [*["skipped"] * 6, "stored", "stored"]


def test_a_list_is_divided_by_its_names(
    capsys: pytest.CaptureFixture[str], url: str, archive: Path, tmp_path: Path
) -> None:
    """Files in a list count by their names as they are written, so all shards get the same list."""
    Path("list").write_text("\n".join(str(path.relative_to(tmp_path)) for path in sorted(archive.rglob("IM*"))))
    for number in (1, 2, 3):
        own = ("--ledger", f"{number}.db", "--shard", f"{number}/3")
        assert call(capsys, "upload", "--files-from", "list", "--url", url, *own).status == 0
    assert stored(1) | stored(2) | stored(3) == {str(path) for path in archive.rglob("IM*")}
    assert sum(len(stored(number)) for number in (1, 2, 3)) == 2 * STUDIES


def test_the_log_names_the_shard(capsys: pytest.CaptureFixture[str], url: str, archive: Path) -> None:
    """The line of the start has all settings."""
    upload(capsys, url, "2/3", "--log", "run.log", "--log-format", "json")
    start = json.loads(Path("run.log").read_text().splitlines()[0])
    assert (start["event"], start["shard"], start["shard_level"]) == ("start", "2/3", "auto")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "0/16"], "--shard 0/16: expected K/N with K from 1 to N; to an index from 0, add 1"),
        (["--shard", "17/16"], "--shard 17/16: expected K/N with K from 1 to N"),
        (["--shard", "3"], "'3' is not a shard such as 3/16"),
        (["--shard", "1/2", "--shard-level", "0"], "--shard-level 0: expected more than 0"),
        (["--shard", "1/2", "--shard-level", "study"], "'study' is not a whole number"),
    ],
)
def test_a_wrong_shard_has_status_2(
    capsys: pytest.CaptureFixture[str], archive: Path, words: list[str], message: str
) -> None:
    """The message says what is expected."""
    ended = call(capsys, "upload", "archive", "--url", "http://localhost/", *words)
    assert (ended.status, ended.out) == (2, "")
    assert message in ended.err


@pytest.mark.parametrize(
    ("variable", "value"), [("SLURM_ARRAY_TASK_ID", "3"), ("JOB_COMPLETION_INDEX", "2")], ids=["SLURM", "Kubernetes"]
)
def test_the_recipes_of_the_readme(tmp_path: Path, variable: str, value: str) -> None:
    """A shell makes the third shard and its ledger of the third job, which SLURM counts from 1, Kubernetes from 0."""
    (tmp_path / "bulkstow").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "bulkstow").chmod(0o755)
    commands = re.findall(r"exec bulkstow upload .*?(?=```|\n *volumeMounts)", README.read_text("utf-8"), re.DOTALL)
    (command,) = (command for command in commands if variable in command)
    if "\\\n" not in command:
        command = " ".join(command.split())  # as YAML folds it
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "", variable: value}
    words = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True).stdout.splitlines()
    assert words[:2] == ["upload", "/archive"]
    assert words[words.index("--shard") + 1] == "3/16"
    assert words[words.index("--ledger") + 1] == "/ledgers/shard-3.db"
