"""Claims about `bulkstow verify` as a command: output, exit statuses, repair, and its end by a signal."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.from_thread
import pytest
from aiohttp import web

from bulkstow.ledger import Ledger, LedgerReader
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.server.storage import DirectoryStorage
from tests.archives import header, write_batch
from tests.cli.command import Ended, call, end, running, served
from tests.verification.qido_server import QidoServer, serving

QUIET = ("--progress", "none", "--settle", "0s")


@contextmanager
def searched(server: QidoServer) -> Iterator[str]:
    """Run a server in a thread of its own and give its URL."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(server)) as url,
    ):
        yield url


def recorded(path: Path, url: str, studies: int, instances: int = 2) -> dict[str, list[str]]:
    """Write the ledger of an upload of this many studies, and return the instances of the server."""
    held: dict[str, list[str]] = {}
    with Ledger(path, url) as ledger:
        for study in range(1, studies + 1):
            heads = [header(number, study=study) for number in range(1, instances + 1)]
            files = [Candidate(f"/{study}/{number}", 1, 1) for number in range(1, instances + 1)]
            ledger.record([FileResult(*one, Outcome.STORED) for one in zip(files, heads, strict=True)])
            held[f"2.25.{study}"] = [head.sop_instance_uid for head in heads]
    return held


def outcomes(path: Path) -> dict[str, Outcome]:
    """Return the outcomes by file name."""
    with LedgerReader([path]) as reader:
        return {
            "/".join(entry.result.candidate.location.split("/")[-2:]): entry.result.outcome
            for entry in reader.entries()
        }


def test_each_notation_names_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The table has the studies that are not complete, CSV and JSON have all; the closing text is kept apart."""
    server = QidoServer({})
    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 3)
        server.held["2.25.2"].remove("2.25.2.1.2")
        del server.held["2.25.3"]
        ended = {
            name: call(capsys, "verify", "--url", url, *QUIET, "--format", name) for name in ("table", "csv", "jsonl")
        }
    assert {one.status for one in ended.values()} == {1}
    assert "incomplete         2         1  2.25.2: missing 2.25.2.1.2\n" in ended["table"].out
    assert "absent             2         0  2.25.3\n" in ended["table"].out
    assert "3 of 6 instances found, level instances" in ended["table"].out
    rows = {row["study_uid"]: row for row in csv.DictReader(io.StringIO(ended["csv"].out))}
    assert {uid: row["state"] for uid, row in rows.items()} == {
        "2.25.1": "complete",
        "2.25.2": "incomplete",
        "2.25.3": "absent",
    }
    assert rows["2.25.3"]["missing"] == "2.25.3.1.1 2.25.3.1.2"
    lines = {line["study_uid"]: line for line in map(json.loads, ended["jsonl"].out.splitlines())}
    assert lines["2.25.2"] == {
        "study_uid": "2.25.2",
        "state": "incomplete",
        "expected": 2,
        "found": 1,
        "missing": ["2.25.2.1.2"],
        "different": [],
        "extra": [],
        "reason": "",
        "original_study_uid": "",
    }
    assert "3 of 6 instances found" in ended["jsonl"].err


def test_everything_complete_ends_with_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """More at the server than expected is listed, and is no failure; the summary is written."""
    server = QidoServer({})
    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 2)
        server.add("2.25.1.1.77")
        ended = call(capsys, "verify", "--url", url, *QUIET, "--format", "jsonl", "--summary", "s.json")
    assert ended.status == 0
    assert {json.loads(line)["study_uid"]: json.loads(line)["extra"] for line in ended.out.splitlines()} == {
        "2.25.1": ["2.25.1.1.77"],
        "2.25.2": [],
    }
    summary = json.loads(Path("s.json").read_text())
    assert (summary["states"]["extra"], summary["states"]["complete"], summary["exit_status"]) == (1, 1, 0)
    assert (summary["level"], summary["sample"], summary["complete"]) == ("instances", "all", True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--ledger bulkstow.db: no such file"),
        (("--repair", "--level", "counts"), "--repair with --level counts"),
        (("--sample", "none"), "'none' is not all, a number of studies such as 500, or a share such as 1%"),
        (("--sample", "0"), "'0' is not all"),
        (("--sample", "101%"), "'101%' is not all"),
        (("gone",), "no such file or directory: 'gone'"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    """Wrong use ends with 2, one line, and no ledger."""
    ended = call(capsys, "verify", *words, "--url", "http://127.0.0.1:1/rs")
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err
    assert not Path("bulkstow.db").exists()


def test_a_server_that_is_not_there_ends_with_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing is recorded about studies for which the queries failed."""
    url = "http://127.0.0.1:1/rs"
    recorded(tmp_path / "bulkstow.db", url, 1)
    ended = call(capsys, "verify", "--url", url, *QUIET)
    assert (ended.status, set(outcomes(tmp_path / "bulkstow.db").values())) == (3, {Outcome.STORED})


def uploaded(capsys: pytest.CaptureFixture[str], url: str, *words: str) -> Ended:
    """Upload the archive."""
    return call(capsys, "upload", "archive", "--url", url, "--progress", "none", *words)


@contextmanager
def stored(capsys: pytest.CaptureFixture[str], tmp_path: Path, studies: int = 3) -> Iterator[str]:
    """Give the URL of a server that has an archive."""
    for study in range(1, studies + 1):
        write_batch(tmp_path / "archive" / str(study), 2, study=study)
    with served(DirectoryStorage(tmp_path / "stored")) as url:
        assert uploaded(capsys, url).status == 0
        yield url


def lose(url: str, *uids: str) -> None:
    """Delete instances at a server; the study of `2.25.S.R.N` is `2.25.S`."""
    for uid in uids:
        study, series = ".".join(uid.split(".")[:3]), ".".join(uid.split(".")[:4])
        resource = f"{url}/studies/{study}/series/{series}/instances/{uid}"
        with urllib.request.urlopen(urllib.request.Request(resource, method="DELETE")) as answer:
            assert answer.status < 300


def test_the_next_upload_sends_exactly_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """After `verify` an upload sends the missing instances, and only these; then all is complete."""
    with stored(capsys, tmp_path) as url:
        lose(url, "2.25.2.1.1", "2.25.3.1.1", "2.25.3.1.2")
        assert call(capsys, "verify", "--url", url, *QUIET).status == 1
        lost = {name for name, outcome in outcomes(tmp_path / "bulkstow.db").items() if outcome is Outcome.MISSING}
        assert lost == {"2/IM002000001", "3/IM003000001", "3/IM003000002"}
        assert uploaded(capsys, url, "--summary", "s.json").status == 0
        summary = json.loads(Path("s.json").read_text())
        assert (summary["outcomes"]["stored"], summary["settled_before"]) == (6, 3)
        assert call(capsys, "verify", "--url", url, *QUIET).status == 0


def test_repair_sends_it_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--repair sends the missing instances, verifies their studies again, and ends with the final state."""
    with stored(capsys, tmp_path) as url:
        lose(url, "2.25.2.1.1", "2.25.3.1.1", "2.25.3.1.2")
        ended = call(capsys, "verify", "--url", url, *QUIET, "--repair", "--format", "jsonl")
    assert ended.status == 0
    lines = [json.loads(line) for line in ended.out.splitlines()]
    states = [(line["study_uid"], line["state"]) for line in lines]
    assert sorted(states[:3]) == [("2.25.1", "complete"), ("2.25.2", "incomplete"), ("2.25.3", "absent")]
    assert sorted(states[3:]) == [("2.25.2", "complete"), ("2.25.3", "complete")]


def test_a_repair_that_cannot_help_ends_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A missing instance whose file is gone stays missing."""
    with stored(capsys, tmp_path) as url:
        lose(url, "2.25.2.1.1")
        (tmp_path / "archive" / "2" / "IM002000001").unlink()
        ended = call(capsys, "verify", "--url", url, *QUIET, "--repair")
    assert ended.status == 1
    assert "1 file of missing instances cannot be sent: no such file" in ended.err
    assert outcomes(tmp_path / "bulkstow.db")["2/IM002000001"] is Outcome.MISSING


def test_a_source_is_verified_without_its_ledger(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The files of a source are expected, independently of the ledger, and repaired without a ledger too."""
    with stored(capsys, tmp_path) as url:
        lose(url, "2.25.2.1.1")
        words = ("verify", "archive/1", "archive/2", "--url", url, *QUIET, "--ledger", "new.db")
        ended = call(capsys, *words, "--format", "jsonl")
        assert ended.status == 1
        lines = {line["study_uid"]: line for line in map(json.loads, ended.out.splitlines())}
        assert {uid: line["state"] for uid, line in lines.items()} == {"2.25.1": "complete", "2.25.2": "incomplete"}
        assert lines["2.25.2"]["missing"] == ["2.25.2.1.1"]
        assert call(capsys, *words, "--repair").status == 0
        assert outcomes(Path("new.db")) == {"2/IM002000001": Outcome.STORED}


def test_other_files_of_a_study_are_not_extra(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """If only a part of a study is named, the server may have or lack the other instances in the ledger."""
    with stored(capsys, tmp_path, studies=1) as url:
        one = "archive/1/IM001000001"
        ended = call(capsys, "verify", one, "--url", url, *QUIET, "--format", "jsonl")
        other = call(capsys, "verify", one, "--url", url, *QUIET, "--format", "jsonl", "--ledger", "new.db")
    assert json.loads(ended.out)["state"] == "complete"
    assert json.loads(other.out)["extra"] == ["2.25.1.1.2"]


def test_filters_choose_what_is_verified(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A filtered verification expects the selected files; the server may have or lack the study's others."""
    server = QidoServer({})
    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 3)
        server.held["2.25.1"].remove("2.25.1.1.2")
        del server.held["2.25.2"]
        Path("list").write_text("2.25.1\n2.25.3\n")
        words = ("verify", "--url", url, *QUIET, "--format", "jsonl")
        by_study = call(capsys, *words, "--studies", "list")
        by_path = call(capsys, *words, "--include", "1/1", "--include", "3/*")
    states = {line["study_uid"]: line["state"] for line in map(json.loads, by_study.out.splitlines())}
    assert (by_study.status, states) == (1, {"2.25.1": "incomplete", "2.25.3": "complete"})
    states = {line["study_uid"]: line["state"] for line in map(json.loads, by_path.out.splitlines())}
    assert (by_path.status, states) == (0, {"2.25.1": "complete", "2.25.3": "complete"})


def test_the_next_step_after_a_loss_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The text names the report of missing instances, and the upload that sends them; a clean run names neither."""
    server = QidoServer({})
    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 1)
        clean = call(capsys, "verify", "--url", url, *QUIET)
        server.held["2.25.1"].pop()
        lost = call(capsys, "verify", "--url", url, *QUIET)
    step = [
        "missing instances: bulkstow report bulkstow.db --outcome missing,unconfirmed,refused",
        "  the next upload sends them again, refused ones with --retry-failed",
    ]
    assert lost.out.splitlines()[-2:] == step
    assert not set(step) & set(clean.out.splitlines())


def test_a_listed_study_without_files_is_no_success(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A study of --studies that the ledger does not have is named, and accepted by --allow-empty only."""
    server = QidoServer({})
    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 1)
        Path("list").write_text("2.25.1\n2.25.77\n")
        words = ("verify", "--url", url, *QUIET, "--studies", "list")
        ended = call(capsys, *words)
        accepted = call(capsys, *words, "--allow-empty")
    assert ended.status == 1
    assert "not covered: 1 study of --studies without a file to verify; --allow-empty accepts this" in ended.out
    assert "  2.25.77" in ended.out.splitlines()
    assert (accepted.status, "not covered" in accepted.out) == (0, False)


def test_an_interrupted_run_keeps_what_it_knows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """After Ctrl-C the requests under way are finished and recorded, and the same command continues there."""
    server = QidoServer({})
    pids: list[int] = []

    def interrupt(request: web.Request, number: int) -> None:
        if number == 12:
            os.kill(pids[0], signal.SIGINT)

    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 40)
        server.before = interrupt
        words = ("verify", "--url", url, *QUIET, "--concurrency", "1", "--requests-per-second", "100")
        with running(*words) as process:
            pids.append(process.pid)
            ended = end(process)
        assert ended.status == 130
        assert "not complete: run the same command again" in ended.out
        assert set(outcomes(tmp_path / "bulkstow.db").values()) == {Outcome.STORED}
        again = call(capsys, *words, "--summary", "s.json")
    summary = json.loads(Path("s.json").read_text())
    assert (again.status, summary["states"]["complete"]) == (0, 40)
    assert 0 < summary["confirmed_before"] < 40


def test_the_log_has_a_line_for_each_study(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--log has the scope at the start, each study, and the figures at the end."""
    server = QidoServer({})
    with searched(server) as url:
        server.held = recorded(tmp_path / "bulkstow.db", url, 2)
        call(capsys, "verify", "--url", url, *QUIET, "--log", "run.log", "--log-format", "json", "--sample", "50%")
    lines = [json.loads(line) for line in Path("run.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "study", "end"]
    assert (lines[0]["sample"], lines[1]["state"], lines[2]["exit_status"]) == ("50%", "complete", 0)
