"""Everything at hand in one tree, sent to an Orthanc: what it takes is there, and of the rest we know why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from bulkstow.model import Outcome
from bulkstow.wire.server_profile import ORTHANC
from bulkstow.wire.synthetic import part10
from tests.orthanc.archives import files_below, header, synthetic
from tests.orthanc.command import Ended, Upload
from tests.orthanc.conftest import Alone, StartOrthanc
from tests.orthanc.servers import Orthanc

pytestmark = pytest.mark.orthanc

SUCCESSES = {outcome.value for outcome in Outcome if outcome.is_success}

# Orthanc takes data sets without preamble, which bulkstow sends on demand only, and knows no archives.
EVERYTHING = ("--progress", "none", "--accept-missing-preamble", "--archives", "no")


@dataclass(frozen=True, slots=True)
class Migration:
    """The mixed tree, sent to an Orthanc of its own."""

    orthanc: Orthanc
    upload: Upload
    first: Ended
    summary: dict[str, Any]
    """Of the first run."""
    report: dict[str, dict[str, Any]]
    """Its lines by path."""
    lines: int


@pytest.fixture(scope="module")
def migration(
    start_orthanc: StartOrthanc, mixed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Migration]:
    """Give the mixed tree after its first upload."""
    orthanc = start_orthanc()
    upload = Upload(mixed, orthanc.url, tmp_path_factory.mktemp("upload"), EVERYTHING)
    first = upload.run()
    report = upload.report()
    by_path = {line["path"]: line for line in report}
    yield Migration(orthanc, upload, first, upload.summary(), by_path, len(report))
    orthanc.kill()


def test_what_is_taken_alone_is_there(migration: Migration, alone: Alone) -> None:
    """Every instance that Orthanc takes when it is posted alone is there after the upload, and nothing else."""
    assert migration.orthanc.instances() == alone.instances


def test_every_file_is_on_one_line(migration: Migration, mixed: Path) -> None:
    """The report has each file of the tree exactly once, also those whose names are not UTF-8."""
    assert migration.report.keys() == files_below(mixed)
    assert migration.lines == len(migration.report)


def test_what_is_not_there_has_its_reason(migration: Migration, alone: Alone) -> None:
    """A file is called stored if and only if Orthanc takes it; every other has a reason."""
    for path, line in migration.report.items():
        listed = alone.answers[path].listed
        if line["outcome"] in SUCCESSES:
            assert listed == {line["sop_instance_uid"]}, line
        else:
            assert line["reason"], line
            # Taken alone and yet not sent: then another file stands for the same instance.
            assert not listed or re.match(
                "a second copy of the SOP instance, same bytes|the same SOP Instance UID as ", line["reason"]
            ), line
            assert listed <= migration.orthanc.instances()


def test_each_instance_is_stored_by_one_file(migration: Migration, alone: Alone) -> None:
    """Of several files of the same instance one is called stored, so the counts are those of instances."""
    stored = [line["sop_instance_uid"] for line in migration.report.values() if line["outcome"] in SUCCESSES]
    assert sorted(stored) == sorted(alone.instances)


def test_the_run_says_that_some_were_refused(migration: Migration) -> None:
    """Some files are refused, so the exit status is 1; the figures are those of the report; no traceback is shown."""
    results = [line["outcome"] for line in migration.report.values()]
    assert results.count("refused") > 0
    assert migration.first.status == 1
    assert migration.first.stderr == ""
    assert migration.summary["complete"]
    assert migration.summary["outcomes"] == {outcome.value: results.count(outcome.value) for outcome in Outcome}


def test_the_closing_words_add_up(migration: Migration) -> None:
    """The reasons for what was skipped are told with counts that add up, copies that were looked at twice included."""
    reasons = Counter(
        line["reason"].partition(":")[0] for line in migration.report.values() if line["outcome"] == "skipped"
    )
    told = re.findall(r"^  skipped ([0-9,]+): (.*)$", migration.first.stdout, re.MULTILINE)
    assert {reason: int(count.replace(",", "")) for count, reason in told} == reasons


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        (".DS_Store", "skipped", "not DICOM"),
        ("report.pdf", "skipped", "not DICOM"),
        ("viewer/index.html", "skipped", "not DICOM"),
        ("export.zip", "unreadable", "a zip archive, which was not looked into"),
        ("export.tar", "unreadable", "a tar archive, which was not looked into"),
        ("export.gz", "unreadable", "a gzip file, which was not looked into"),
        ("export.xz", "unreadable", "an xz file, which was not looked into"),
        ("export.bz2", "unreadable", "a bzip2 file, which was not looked into"),
        ("letter.docx", "skipped", "not DICOM"),
        ("preamble.dcm", "stored", ""),
        ("vr/1.dcm", "stored", ""),
        ("vr/2.dcm", "stored", ""),
        ("vr/3.dcm", "stored", ""),
        ("vr/4.dcm", "stored", ""),
        ("vr/of-the-future.dcm", "stored", ""),
        ("vr/damaged.dcm", "unreadable", "damaged"),
        ("nul-in-uid.dcm", "stored", ""),
        ("looks-like.dcm", "unreadable", "no SOP Instance UID"),
        ("head-cut.dcm", "unreadable", "cut off in its head"),
        ("bomb.dcm", "unreadable", "its head is too long"),
        ("DICOMDIR", "skipped", "a DICOMDIR"),
        ("empty.dcm", "skipped", "empty"),
        ("half.dcm", "refused", "HTTP 400 (no reason given); pixel data cut off"),
        ("twice/1-half.dcm", "refused", "HTTP 400 (no reason given); pixel data cut off"),
        ("twice/2-whole.dcm", "stored", ""),
        ("twice/3-again.dcm", "skipped", "a second copy of the SOP instance, same bytes"),
        ("delimiter.dcm", "stored", ""),
        ("delimiter-at-end.dcm", "stored", ""),
        ("IM000001", "stored", ""),
        ("1.2.840.113619.2.1.1", "stored", ""),
        ("caf\udce9 \udcff\udcfe/IM\udc80 1", "stored", ""),
        ("caf\udce9 \udcff\udcfe/IM\udc80 2", "skipped", "a second copy of the SOP instance, same bytes"),
        ("line\nfeed\t;$(x) '\"", "stored", ""),
        ("not-utf8-\udce9.txt", "skipped", "not DICOM"),
    ],
)
def test_odd_files(migration: Migration, mixed: Path, name: str, result: str, reason: str) -> None:
    """What lies about in archives comes to what it should; a broken first copy does not hide the whole one."""
    line = migration.report[f"{mixed}/odd/{name}"]
    assert (line["outcome"], line["reason"].partition(":")[0]) == (result, reason)


def test_stored_bytes_are_the_files(migration: Migration) -> None:
    """WADO-RS gives back each stored file byte for byte, whatever its transfer syntax."""
    syntaxes = set()
    for path, line in migration.report.items():
        if line["outcome"] not in SUCCESSES:
            continue
        content = Path(path).read_bytes()
        back = migration.orthanc.read_back(line["study_uid"], line["series_uid"], line["sop_instance_uid"])
        assert back == content, path
        if content[128:132] == b"DICM":
            syntaxes.add(dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta.TransferSyntaxUID)
    assert len(syntaxes) >= 8


def _without_times(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the lines by path; an unreadable file is read again in each run, and has the time of the latest."""
    return {line["path"]: line | {"recorded_at": None} for line in lines}


def test_a_second_run_sends_nothing(migration: Migration) -> None:
    """Run again, the same command makes no request, comes to the same end and says the same of every file."""
    again = migration.upload.run()
    summary = migration.upload.summary()
    assert (again.status, again.stderr) == (1, "")
    assert (summary["requests"], summary["bytes_sent"]) == (0, 0)
    assert summary["outcomes"] == migration.summary["outcomes"]
    assert _without_times(migration.upload.report()) == _without_times(migration.report.values())


def test_a_file_that_sinks_its_request(orthanc: Orthanc, tmp_path: Path) -> None:
    """An instance without series makes Orthanc drop the rest of the request and say 200: the others are stored."""
    archive = tmp_path / "archive"
    files = synthetic(archive, studies=1)
    uid, mixed = sorted(files.items())[4]
    number = int(uid.rpartition(".")[2])
    content = part10(replace(header(1, number), series_uid=""), number=number)
    assert orthanc.store_alone(content).listed == frozenset()
    mixed.write_bytes(content)
    upload = Upload(archive, orthanc.url, tmp_path, ("--progress", "none", "--retries", "1"))
    assert upload.run().status == 1
    assert orthanc.instances() == files.keys() - {uid}
    (line,) = (line for line in upload.report() if line["outcome"] != "stored")
    assert (line["path"], line["outcome"]) == (str(mixed), "unconfirmed")
    assert line["reason"].startswith("HTTP 200 without naming it")


def test_new_copies_of_what_is_stored(orthanc: Orthanc, tmp_path: Path) -> None:
    """Copies that turn up in a later run all stand behind the file that was stored, and nothing is sent for them."""
    archive = tmp_path / "archive"
    files = synthetic(archive, studies=1, instances=1)
    (stored,) = files.values()
    upload = Upload(archive, orthanc.url, tmp_path)
    assert upload.run().status == 0
    for number in range(5):
        (archive / f"copy{number}").write_bytes(stored.read_bytes())
    ended = upload.run()
    assert (ended.status, upload.summary()["requests"]) == (0, 0)
    assert "skipped 5: a second copy of the SOP instance, same bytes" in ended.stdout
    reasons = [line["reason"] for line in upload.report() if line["outcome"] == "skipped"]
    assert reasons == [f"a second copy of the SOP instance, same bytes: see {stored}"] * 5


def test_what_the_profile_knows_of_orthanc(orthanc: Orthanc, tmp_path: Path) -> None:
    """Orthanc lists other content of a UID as stored and keeps the first, and DICOMweb's DELETE is not there."""
    first, second = (part10(header(1, 1), rows=rows) for rows in (16, 8))
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a").write_bytes(first)
    (tmp_path / "archive" / "b").write_bytes(second)
    options = ("--progress", "none", "--on-conflict", "send", "--server-profile", "orthanc")
    upload = Upload(tmp_path / "archive", orthanc.url, tmp_path, options)
    assert upload.run().status == 1
    sent, kept = {line["path"][-1]: line for line in upload.report()}, header(1, 1)
    assert {path: line["outcome"] for path, line in sent.items()} == {"a": "stored", "b": "unconfirmed"}
    assert "the server lists it as stored, but may have kept" in sent["b"]["reason"]
    assert orthanc.read_back(kept.study_uid, kept.series_uid, kept.sop_instance_uid)[128:] == first[128:]
    assert orthanc.ask("DELETE", f"/dicom-web/studies/{kept.study_uid}").status == 405
    (patient,) = json.loads(orthanc.ask("GET", "/patients?expand").body)
    path = ORTHANC.deletions[0].path(patient["MainDicomTags"].get("PatientID", ""), kept.study_uid)
    assert orthanc.ask("DELETE", path).status == 200


def test_files_without_preamble_are_sent_on_demand(orthanc: Orthanc, mixed: Path, alone: Alone, tmp_path: Path) -> None:
    """Without --accept-missing-preamble just those are missing, with a reason; with it a later run sends them."""
    upload = Upload(mixed, orthanc.url, tmp_path, ("--progress", "none", "--archives", "no"))
    upload.run()
    bare = {path for path in files_below(mixed) if Path(path).read_bytes()[128:132] != b"DICM"}
    taken_bare = {uid for path in bare for uid in alone.answers[path].listed}
    taken_proper = {uid for path, answer in alone.answers.items() if path not in bare for uid in answer.listed}
    assert orthanc.instances() == taken_proper
    assert taken_bare - taken_proper
    assert not any(line["outcome"] in SUCCESSES for line in upload.report() if line["path"] in bare)
    failures = {line["path"]: line["reason"] for line in upload.report() if line["outcome"] == "unreadable"}
    assert failures.keys() >= {path for path in bare if alone.answers[path].listed}

    Upload(mixed, orthanc.url, tmp_path, EVERYTHING).run()
    assert orthanc.instances() == alone.instances
    assert sum(upload.summary()["outcomes"].values()) == len(files_below(mixed))


def test_concurrency_changes_no_outcome(start_orthanc: StartOrthanc, mixed: Path, tmp_path: Path) -> None:
    """One request at a time, eight, and three processes come to the same outcome and reason for every file."""
    said = []
    for option, number in (("--concurrency", "1"), ("--concurrency", "8"), ("--processes", "3")):
        orthanc = start_orthanc()
        directory = tmp_path / (option + number)
        directory.mkdir()
        upload = Upload(mixed, orthanc.url, directory, (*EVERYTHING, option, number))
        assert upload.run().status == 1
        said.append({line["path"]: (line["outcome"], line["reason"].partition(":")[0]) for line in upload.report()})
        orthanc.kill()
    assert said[0] == said[1] == said[2]
