"""`bulkstow plan` as a user sees it: figures, lists, exit status, and nothing written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from aiohttp import web

from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.server.storage import DiscardStorage
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10
from tests.archives import candidate, header
from tests.cli.command import call, end, nobody, running, served, spawn, spawn_unread
from tests.verification.qido_server import QidoServer, serving

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"


def write(
    path: Path, number: int, *, study: int = 1, modality: str = "CT", date: str = "20240506", pixels: int = 0
) -> Path:
    """Write an instance of a modality and a date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = part10(header(number, study=study), number=number + pixels)
    content = content.replace(b"CS\x02\0OT", b"CS\x02\0" + modality.encode().ljust(2))
    path.write_bytes(content.replace(b"DA\x08\x0020260101", b"DA\x08\0" + date.encode().ljust(8)))
    return path


SIZE_BYTES = len(part10(header(1)))
"""The size of every instance."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive with files of every kind."""
    root = tmp_path / "archive"
    write(root / "a" / "1", 1)
    write(root / "a" / "2", 2)
    write(root / "b" / "1", 3, study=2, modality="MR", date="20250101")
    write(root / "c" / "1", 4, study=3, date="")
    write(root / "d" / "conflict", 1, pixels=7)
    shutil.copy(root / "a" / "1", root / "d" / "copy")
    (root / "e").mkdir()
    (root / "e" / "empty").touch()
    (root / "e" / "text").write_text("not DICOM, just words\n")
    (root / "e" / "words").write_text("not DICOM, just words\n")
    (root / "e" / "bare").write_bytes((root / "a" / "1").read_bytes()[132:])
    (root / "e" / "packed.rar").write_bytes(b"Rar!\x1a\x07" + bytes(100))
    return root


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
def url(storage: DiscardStorage) -> Iterator[str]:
    """Give a server."""
    with served(storage) as url:
        yield url


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return the plan as JSON, without its exit status."""
    ended = call(capsys, "plan", *words, "--format", "json", "--progress", "none")
    fields: dict[str, Any] = json.loads(ended.out)
    assert ended.status == fields["exit_status"]
    return fields


def amount(files: int, size_bytes: int | None = None) -> dict[str, int]:
    """Return files of the usual size as in JSON."""
    return {"files": files, "size_bytes": files * SIZE_BYTES if size_bytes is None else size_bytes}


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything in a directory."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.rglob("*")}


def test_an_archive_is_described(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has all figures of a mixed archive."""
    sizes = {path.name: path.stat().st_size for path in (archive / "e").iterdir()}
    fields = planned(capsys, "archive")
    failures = fields.pop("first_failures")
    assert fields == {
        "destination": None,
        "found": amount(11, 6 * SIZE_BYTES + sum(sizes.values())),
        "instances": amount(6),
        "sop_instances": 4,
        "studies": 3,
        "series": 3,
        "to_send": amount(4) | {"studies": 3},
        "settled": {},
        "copies": amount(1),
        "conflicts": amount(1),
        "not_sent": [
            {"outcome": "skipped", "reason": "not DICOM"} | amount(2, 2 * sizes["text"]),
            {"outcome": "skipped", "reason": "empty"} | amount(1, 0),
            {"outcome": "unreadable", "reason": "DICOM without preamble"} | amount(1, sizes["bare"]),
            {"outcome": "unreadable", "reason": "a rar archive, which was not looked into"}
            | amount(1, sizes["packed.rar"]),
        ],
        "other_reasons": amount(0),
        "left_out": {},
        "pruned_directories": 0,
        "failures": 3,
        "accepted": 0,
        "empty_sources": [],
        "by_modality": [
            {"modality": "CT"} | amount(5) | {"to_send": amount(3)},
            {"modality": "MR"} | amount(1) | {"to_send": amount(1)},
        ],
        "by_sop_class": [
            {"sop_class_uid": SECONDARY_CAPTURE, "name": "Secondary Capture Image Storage"}
            | amount(6)
            | {"to_send": amount(4)}
        ],
        "by_transfer_syntax": [
            {"transfer_syntax_uid": EXPLICIT_VR_LITTLE_ENDIAN, "name": "Explicit VR Little Endian"}
            | amount(6)
            | {"to_send": amount(4)}
        ],
        "by_year": [
            {"year": "2024"} | amount(4) | {"to_send": amount(2)},
            {"year": ""} | amount(1) | {"to_send": amount(1)},
            {"year": "2025"} | amount(1) | {"to_send": amount(1)},
        ],
        "not_stored_before": [],
        "at_server": None,
        "rate": None,
        "duration_s": None,
        "exit_status": 1,
    }
    assert [(failure["outcome"], Path(failure["path"]).name) for failure in failures] == [
        ("conflict", "conflict"),
        ("unreadable", "bare"),
        ("unreadable", "packed.rar"),
    ]


def test_the_table_has_the_same_figures(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table shows totals, groups, reasons, the first failures and the time, and nothing on standard error."""
    ended = call(capsys, "plan", "archive", "--progress", "none", "--rate", f"{SIZE_BYTES}B/s")
    assert (ended.status, ended.err) == (1, "")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    for expected in (
        "to send 4 3.42kB 3 studies",
        "copies 1 854B",
        "skipped 2 44B not DICOM",
        "CT 5 4.27kB 3",
        "Secondary Capture Image Storage 6 5.12kB 4",
        "2024 4 3.42kB 2",
        "none 1 854B 1",
        "to send: 4 files, 3.42kB, in about 4s at 854B/s",
    ):
        assert expected in lines, expected
    assert f"  conflict {archive}/d/conflict: the same SOP Instance UID as {archive}/a/1, other bytes" in ended.out


@pytest.mark.parametrize("has_ledger", [False, True], ids=["no ledger", "ledger"])
def test_nothing_is_written(
    archive: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, has_ledger: bool
) -> None:
    """A plan leaves every file as it is, and creates none, not even the ledger, the log and the summary."""
    if has_ledger:
        with served() as url:
            assert call(capsys, "upload", "archive", "--url", url, "--progress", "none").status == 1
    before = tree(tmp_path)
    for words in (["plan", "archive"], ["plan", "archive", "--log", "l", "--summary", "s", "--on-conflict", "newest"]):
        assert call(capsys, *words).status == 1
    with served() as url:
        assert call(capsys, "upload", "archive", "--dry-run", "--url", url, "--summary", "s").status == 1
    assert tree(tmp_path) == before


def test_a_dry_run_is_the_plan_of_the_upload(archive: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`upload --dry-run` prints the same as `plan` with the same settings, and the server gets nothing."""
    words = ["archive", "--url", url, "--on-conflict", "send", "--modality", "CT", "--progress", "none"]
    dry = call(capsys, "upload", "--dry-run", "--digest", "sha256", *words)
    assert dry == call(capsys, "plan", *words)
    assert "to send: 4 files" in dry.out


@pytest.mark.parametrize("choice", ["report", "send", "newest"])
def test_the_list_is_what_the_upload_sends(
    archive: Path, url: str, storage: DiscardStorage, capsys: pytest.CaptureFixture[str], choice: str
) -> None:
    """An upload of the list sends these files and no other; after it a plan has nothing left to send."""
    flags = ["--on-conflict", choice]
    os.utime(archive / "d" / "conflict", ns=(0, 2**61))  # the newest
    fields = planned(capsys, "archive", *flags, "--list", "list")
    listed = Path("list").read_text().splitlines()
    assert len(listed) == fields["to_send"]["files"] == (5 if choice == "send" else 4)
    assert call(capsys, "upload", "--files-from", "list", "--url", url, *flags).status == (choice == "send")
    sent = {entry.result.candidate.location for entry in read_entries(Path("bulkstow.db")) if entry.result.attempts}
    assert sent == set(listed)
    after = planned(capsys, "--files-from", "list", *flags)
    assert after["to_send"] == amount(0) | {"studies": 0}
    assert sum(after["settled"].values()) == len(listed)


def test_a_plan_and_an_upload_agree(archive: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The upload has the outcomes that its plan predicted."""
    fields = planned(capsys, "archive")
    call(capsys, "upload", "archive", "--url", url, "--progress", "none", "--summary", "s.json")
    outcomes = json.loads(Path("s.json").read_text())["outcomes"]
    skipped = sum(reason["files"] for reason in fields["not_sent"] if reason["outcome"] == "skipped")
    assert outcomes["stored"] == fields["to_send"]["files"]
    assert outcomes["conflict"] == fields["conflicts"]["files"]
    assert outcomes["skipped"] == skipped + fields["copies"]["files"]
    assert outcomes["unreadable"] == fields["failures"] - fields["conflicts"]["files"]


def test_the_newest_study_comes_first(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--order newest` the list begins with the newest study, and ends with studies without a date."""
    write(archive / "z" / "1", 9, study=4, date="20230101")
    planned(capsys, "archive", "--list", "list", "--order", "newest")
    names = [str(Path(line).relative_to(archive)) for line in Path("list").read_text().splitlines()]
    assert names == ["b/1", "a/1", "a/2", "z/1", "c/1"]


def test_a_list_on_standard_output_is_alone(archive: Path) -> None:
    """With `--list -` the plan goes to standard error, and names are bytes as the file system has them."""
    (archive / "a" / "2").rename(os.fsdecode(os.fsencode(archive / "a") + b"/\xff2"))
    ended = spawn("plan", "archive", "--list", "-", "--progress", "none")
    lines = [os.fsencode(archive) + name for name in (b"/a/1", b"/a/\xff2", b"/b/1", b"/c/1")]
    assert ended.out.encode(errors="surrogateescape").splitlines() == lines
    assert "to send: 4 files" in ended.err
    assert spawn_unread("plan", "archive", "--list", "-", "--progress", "none").status == 0


def test_a_name_with_a_newline_needs_nul(archive: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A list of lines cannot have such a name: the plan is shown, no list is written, and a message says what to do."""
    (archive / "a" / "2").rename(archive / "a" / "two\nlines")
    Path("list").write_text("kept")
    ended = call(capsys, "plan", "archive", "--list", "list")
    assert (ended.status, Path("list").read_text()) == (2, "kept")
    assert "--list: a name contains a newline, such as" in ended.err
    assert "\nto send: " in ended.out
    assert "two\\nlines: add --null, to this command and to the upload" in ended.err
    fields = planned(capsys, "archive", "--list", "list", "--null")
    names = Path("list").read_bytes().split(b"\0")
    assert names.pop() == b""
    assert len(names) == fields["to_send"]["files"]
    assert os.fsencode(archive / "a" / "two\nlines") in names


def test_what_earlier_runs_settled_is_counted(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settled files are in the groups of their ledger rows; refused kinds are named with the number still to send."""
    of_kind = replace(header(1), sop_class_uid=CT, modality="CT", study_date="20240506")
    stored, refused, unknown = archive / "a" / "1", archive / "a" / "2", archive / "b" / "1"
    with Ledger(Path("bulkstow.db"), "http://one.example/rs") as ledger:
        ledger.record(
            [
                FileResult(candidate(stored), of_kind, Outcome.STORED, "", 1),
                FileResult(candidate(refused), header(2), Outcome.REFUSED, "no", 1),
                FileResult(candidate(unknown), header(3, study=2), Outcome.WARNED, "", 1),
                FileResult(Candidate("/gone/1", 1, 1), header(8), Outcome.UNCONFIRMED, "no", 1),
                FileResult(Candidate("/gone/2", 1, 1), of_kind, Outcome.REFUSED, "no", 1, accepted="known"),
            ]
        )
    fields = planned(capsys, "archive")
    assert fields["destination"] == "http://one.example/rs"
    assert fields["settled"] == {"refused": 1, "stored": 1, "warned": 1}
    assert fields["to_send"] == amount(1) | {"studies": 1}
    assert fields["failures"] == 4
    assert [(group["modality"], group["files"], group["to_send"]["files"]) for group in fields["by_modality"]] == [
        ("CT", 4, 1),
        (None, 2, 0),
    ]
    kinds = [
        (kind["outcome"], kind["sop_class_uid"], kind["files"], kind["to_send"]) for kind in fields["not_stored_before"]
    ]
    assert kinds == [
        ("refused", CT, 1, 0),
        ("refused", SECONDARY_CAPTURE, 1, 1),
        ("unconfirmed", SECONDARY_CAPTURE, 1, 1),
    ]
    retried = planned(capsys, "archive", "--retry-failed")
    assert retried["settled"] == {"stored": 1, "warned": 1}
    assert retried["to_send"] == amount(2) | {"studies": 2}


def test_an_accepted_failure_is_none(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failures that a user has accepted do not make the exit status 1."""
    for path in (archive / "d" / "conflict", archive / "e" / "packed.rar"):
        path.unlink()
    bare = archive / "e" / "bare"
    with Ledger(Path("bulkstow.db"), "http://one.example/rs") as ledger:
        ledger.record([FileResult(candidate(bare), None, Outcome.UNREADABLE, "no preamble", accepted="known")])
    fields = planned(capsys, "archive")
    assert (fields["failures"], fields["accepted"], fields["first_failures"]) == (0, 1, [])
    assert fields["exit_status"] == 0


def test_several_destinations_need_a_choice(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ledger with several destinations needs `--url`."""
    for url in ("http://one.example/rs", "http://two.example/rs"):
        with Ledger(Path("bulkstow.db"), url):
            pass
    ended = call(capsys, "plan", "archive")
    assert ended.status == 2
    assert "has 2 destinations: choose one with --url, such as http://one.example/rs" in ended.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to plan: name directories or files, or give --files-from"),
        (["gone"], "no such file or directory: 'gone'"),
        (["archive", "--rate", "unlimited"], "'unlimited' is not a rate such as 50MiB/s"),
        (["archive", "--list", "gone/list"], "--list gone/list: cannot be written (no such directory)"),
        (["archive", "--header", "A: b"], "--url is missing"),
        (["archive", "--format", "xml"], "--format"),
    ],
    ids=" ".join,
)
def test_wrong_use_has_status_2(archive: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    """A wrong use is reported in one line."""
    ended = call(capsys, "plan", *words)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err


def test_an_empty_source_is_a_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As in an upload, a source without a file has status 1, unless that is allowed."""
    (tmp_path / "empty").mkdir()
    assert planned(capsys, "empty")["empty_sources"] == [str(tmp_path / "empty")]
    assert f"no file found in {tmp_path}/empty" in call(capsys, "plan", "empty").out
    assert planned(capsys, "empty", "--allow-empty")["exit_status"] == 0


def test_filters_leave_out_files(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan counts the files that each filter leaves out, also settled files."""
    with Ledger(Path("bulkstow.db"), "http://one.example/rs") as ledger:
        of_file = replace(header(3, study=2), modality="MR", study_date="20250101")
        ledger.record([FileResult(candidate(archive / "b" / "1"), of_file, Outcome.STORED, "", 1)])
    fields = planned(capsys, "archive", "--modality", "CT", "--exclude", "e", "--include", "[abc]/*")
    assert fields["left_out"] == {"include": 2, "modality": 1}
    assert (fields["pruned_directories"], fields["settled"]) == (1, {})
    assert fields["to_send"] == amount(3) | {"studies": 2}


def test_the_rate_of_the_latest_upload_is_used(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--rate` the rate of the latest upload is used, by bytes or by instances, and the run is named."""
    with Ledger(Path("bulkstow.db"), "http://one.example/rs") as ledger:
        ledger.end({"bytes_sent": 100 * SIZE_BYTES, "delivered": 20, "elapsed_s": 15.0, "outage_s": 5.0})
    fields = planned(capsys, "archive")
    assert fields["rate"] == {
        "bytes_per_s": 10 * SIZE_BYTES,
        "instances_per_s": 2.0,
        "measured_at": fields["rate"]["measured_at"],
    }
    assert fields["duration_s"] == 2.0
    out = call(capsys, "plan", "archive").out
    assert f"in about 2s at 8.54kB/s and 2 instances/s, as the upload of {fields['rate']['measured_at']} UTC" in out
    assert "(20 instances in 10s)" in out


def test_a_file_that_is_named_twice_counts_once(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that a list names twice is planned once, for any outcome."""
    names = [archive / "a" / "1", archive / "e" / "text", archive / "e" / "bare"]
    Path("names").write_text("".join(f"{name}\n" for name in (*names, *names)))
    fields = planned(capsys, "--files-from", "names")
    assert (fields["found"]["files"], fields["to_send"]["files"]) == (3, 1)


def test_an_interrupted_plan_prints_nothing(tmp_path: Path) -> None:
    """SIGINT ends a plan that waits for its list with status 130, without a table and without a list."""
    os.mkfifo(tmp_path / "names")
    with (
        running("plan", "--files-from", "names", "--list", "out", "--progress", "log") as process,
        (tmp_path / "names").open("w"),  # opens when the command reads
    ):
        process.send_signal(signal.SIGINT)
        ended = end(process)
    assert (ended.status, ended.out) == (130, "")
    assert ended.err.endswith("bulkstow: interrupted before the plan was complete\n")
    assert not (tmp_path / "out").exists()


# The server --------------------------------------------------------------------------------------------------------


@contextmanager
def searched(server: QidoServer) -> Iterator[str]:
    """Run a QIDO-RS server in a thread of its own and give its URL."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(server)) as url,
    ):
        yield url


def fails_for(study_uid: str) -> Callable[[web.Request, int], web.StreamResponse | None]:
    """Return an answer of 500 to queries for a study."""
    return lambda request, _: web.Response(status=500) if request.query.get("StudyInstanceUID") == study_uid else None


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (QidoServer({}), {"studies": 3}),
        (
            QidoServer({"2.25.1": ["a"], "2.25.2": ["b"] * 5, "2.25.9": ["c"]}),
            {"studies": 3, "there": 2, "whole": 1, "instances": 6},
        ),
        (
            QidoServer({"2.25.1": ["a", "b"]}, has_counts=False),
            {"studies": 2, "unknown": 1, "reason": "it does not tell the number of a study's instances"},
        ),
        (
            QidoServer({"2.25.1": ["a", "b"]}, before=fails_for("2.25.2")),
            {
                "studies": 2,
                "there": 1,
                "whole": 1,
                "instances": 2,
                "unknown": 1,
                "reason": "HTTP 500 (no reason given)",
            },
        ),
    ],
    ids=["nothing", "a part", "no counts", "fails"],
)
def test_the_server_is_asked_for_each_study(
    archive: Path, capsys: pytest.CaptureFixture[str], server: QidoServer, expected: dict[str, object]
) -> None:
    """With `--url` the plan says which of the studies to send the server has, by one query for each."""
    nothing = {"studies": 0, "there": 0, "whole": 0, "instances": 0, "unknown": 0, "reason": ""}
    with searched(server) as url:
        assert planned(capsys, "archive", "--url", url, "--retries", "0")["at_server"] == nothing | expected
    asked = [query for query in server.requests if "StudyInstanceUID" in query]
    assert sorted(query.partition("StudyInstanceUID=")[2].partition("&")[0] for query in asked) == [
        "2.25.1",
        "2.25.2",
        "2.25.3",
    ]


def test_a_filtered_plan_asks_for_its_studies_only(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server is not asked for studies of which nothing would be sent."""
    server = QidoServer({"2.25.2": ["a"]})
    with searched(server) as url:
        fields = planned(capsys, "archive", "--url", url, "--modality", "MR")
    assert fields["at_server"]["studies"] == fields["at_server"]["whole"] == 1


def test_the_table_says_what_the_server_has(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has one line with the server's answers, and one for the missing answers."""
    with searched(QidoServer({"2.25.1": ["a", "b"]}, before=fails_for("2.25.3"))) as url:
        out = call(capsys, "plan", "archive", "--url", url, "--retries", "0").out
    assert "the server has instances of 1 of 2 studies to send (1 with all instances), 2 instances in all\n" in out
    assert "the server gave no number for 1 study: HTTP 500" in out


def test_without_answers_the_table_says_nothing_of_the_server(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If nothing is to be sent, or the server answers for no study, there are no figures of it."""

    def fails(request: web.Request, _: int) -> web.StreamResponse | None:
        return web.Response(status=500) if "StudyInstanceUID" in request.query else None

    with searched(QidoServer({}, before=fails)) as url:
        nothing = call(capsys, "plan", "archive", "--url", url, "--exclude", "*").out
        unanswered = call(capsys, "plan", "archive", "--url", url, "--retries", "0").out
    assert "the server" not in nothing
    assert "the server has" not in unanswered
    assert "the server gave no number for 3 studies: HTTP 500" in unanswered


def test_a_server_that_cannot_be_reached_stops_the_plan(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is read, the status is 3."""
    with nobody() as url:
        ended = call(capsys, "plan", "archive", "--url", url, "--progress", "none")
    assert (ended.status, ended.out) == (3, "")
    assert "Connection refused" in ended.err


# Digests -----------------------------------------------------------------------------------------------------------

NAMES = (b"plain", b"two  spaces", b"back\\slash", b"new\nline", b"return\r", b"\xff", "ü".encode())


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_digests_are_checked_by_sha256sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sha256sum -c` accepts the list, and its own list of these files is equal, for any characters in their names."""
    (tmp_path / "archive").mkdir()
    for number, name in enumerate(NAMES):
        write(tmp_path / "archive" / os.fsdecode(name), number)
    fields = planned(capsys, "archive", "--digest", "sha256", "--digest-list", "sums")
    assert fields["to_send"]["files"] == len(NAMES)
    checked = subprocess.run(["sha256sum", "--check", "--strict", "sums"], capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")
    paths = sorted(os.fsencode(path) for path in (tmp_path / "archive").iterdir())
    theirs = subprocess.run(["sha256sum", "--", *paths], capture_output=True, check=True).stdout
    assert sorted(Path("sums").read_bytes().splitlines()) == sorted(theirs.splitlines())


@pytest.mark.parametrize("words", [["--digest", "sha256"], ["--digest-list", "sums"]], ids=" ".join)
def test_digests_need_a_list_and_a_list_needs_digests(
    archive: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """One without the other is wrong use, and nothing is read or written."""
    ended = call(capsys, "plan", "archive", *words)
    assert (ended.status, ended.out, Path("sums").exists()) == (2, "", False)
    assert "a plan needs both, or none of them" in ended.err


def test_an_upload_records_digests(archive: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--digest sha256` the ledger has the digest of each file that was sent, and none without."""
    first = ["upload", "archive/a", "--url", url, "--progress", "none"]
    assert call(capsys, *first).status == 0
    assert call(capsys, "upload", "archive", "--digest", "sha256", "--url", url, "--progress", "none").status == 1
    sums = {entry.result.candidate.location: entry.result.sha256 for entry in read_entries(Path("bulkstow.db"))}
    sent = [archive / "b" / "1", archive / "c" / "1"]
    assert {location: sha256 for location, sha256 in sums.items() if sha256} == {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sent
    }
