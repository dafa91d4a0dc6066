"""`--edit`: instances are edited while they are sent; ledger, report, plan and verify have both."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import pydicom
import pytest

from bulkstow.engine.edits import edits_in
from bulkstow.ledger import Entry, read_entries
from bulkstow.model import Instance, Outcome
from bulkstow.ports import SegmentReader, Source
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.edited import EditedSource
from bulkstow.source.files import FileSource
from tests.archives import candidate, header, write_instance
from tests.cli.command import Ended, call, served

KEY = "a key of the tests only"
RULES = """
remove = ["PatientBirthDate"]
[set]
InstitutionName = "Clinic North"
[[map]]
file = "ids.csv"
by = "PatientID"
new = { PatientID = "new", IssuerOfPatientID = "issuer" }
[uids]
method = "regenerate"
key_file = "edits.key"
"""


@dataclass(frozen=True, slots=True)
class Edited:
    """A directory with three instances of two patients, rules, a server, and a ledger."""

    directory: Path
    storage: DirectoryStorage
    url: str
    capsys: pytest.CaptureFixture[str]

    def run(self, command: str, *words: str, edit: str | None = "edits.toml", ledger: str = "l.db") -> Ended:
        """Run a command with the edits."""
        where = ("--url", self.url, "--ledger", str(self.directory / ledger), "--progress", "log")
        edits = () if edit is None else ("--edit", str(self.directory / edit))
        return call(self.capsys, command, *words, *where, *edits)

    def upload(self, *words: str, **others: str | None) -> Ended:
        """Send the directory."""
        return self.run("upload", str(self.directory / "source"), *words, **others)  # type: ignore[arg-type]

    def verify(self, *words: str, edit: str | None = "edits.toml") -> tuple[int, list[dict[str, object]]]:
        """Verify at the level of content; return the exit status and the lines."""
        ended = self.run("verify", *words, "--level", "content", "--settle", "0s", "--format", "jsonl", edit=edit)
        return ended.status, [json.loads(line) for line in ended.out.splitlines()]

    def entries(self) -> list[Entry]:
        """Return the rows of the ledger."""
        return list(read_entries(self.directory / "l.db"))

    def stored(self) -> dict[str, pydicom.Dataset]:
        """Return the instances at the server, by the name of their file at the source."""
        found: dict[str, pydicom.Dataset] = {}
        for entry in self.entries():
            if entry.result.outcome is Outcome.STORED and entry.result.header is not None:
                stored = pydicom.dcmread(self.storage.path(entry.result.header))
                found[Path(entry.result.candidate.location).name] = stored
        return found


@pytest.fixture
def edited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Edited]:
    """Give three instances, rules, and a server."""
    for number, patient in ((1, "A1"), (2, "A1"), (3, "PAT-0815")):
        path = Path(write_instance(tmp_path / "source", number).candidate.location)
        data_set = pydicom.dcmread(path)
        data_set.PatientID, data_set.PatientBirthDate, data_set.PatientName = patient, "19500101", "Doe^Jane"
        data_set.save_as(path)
    (tmp_path / "edits.toml").write_text(RULES)
    (tmp_path / "edits.key").write_text(KEY)
    (tmp_path / "ids.csv").write_text("old,new,issuer\nA1,N-100,NORTH\nPAT-0815,N-200,NORTH\n")
    storage = DirectoryStorage(tmp_path / "root")
    with served(storage) as url:
        yield Edited(tmp_path, storage, url, capsys)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_server_gets_edited_instances(edited: Edited, processes: str) -> None:
    """Every rule is applied, and everything else is as in the files, from this process and from senders."""
    assert edited.upload("--processes", processes).status == 0
    stored = edited.stored()
    assert len(stored) == 3
    uids = set()
    for path in sorted((edited.directory / "source").iterdir()):
        before, after = pydicom.dcmread(path), stored[path.name]
        uids.add(str(after.SOPInstanceUID))
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        assert after.StudyInstanceUID.startswith("2.25.")
        assert after.StudyInstanceUID != before.StudyInstanceUID
        assert (after.InstitutionName, after.IssuerOfPatientID) == ("Clinic North", "NORTH")
        assert after.PatientID == {"A1": "N-100", "PAT-0815": "N-200"}[before.PatientID]
        assert "PatientBirthDate" not in after
        before.PatientID, before.IssuerOfPatientID, before.InstitutionName = after.PatientID, "NORTH", "Clinic North"
        del before.PatientBirthDate
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            before[keyword].value = after[keyword].value
        assert before == after
    assert len(uids) == 3
    assert len({str(one.StudyInstanceUID) for one in stored.values()}) == 1


def test_a_second_run_sends_nothing_and_gives_the_same_uids(edited: Edited) -> None:
    """The files are settled; with an empty ledger the same key gives the same UIDs, so the server has duplicates."""
    assert edited.upload().status == 0
    uids = {entry.result.header.sop_instance_uid for entry in edited.entries() if entry.result.header}
    again = edited.upload()
    assert again.status == 0
    assert "3 of them by an earlier run: nothing was sent for them" in again.out
    assert edited.upload(ledger="other.db").status == 0
    others = {e.result.header.sop_instance_uid for e in read_entries(edited.directory / "other.db") if e.result.header}
    assert others == uids


def test_a_copy_is_recognised_after_the_edits(edited: Edited) -> None:
    """A second file with the same content has the same new UID, in a later run too, and is no conflict."""
    assert edited.upload().status == 0
    one = min((edited.directory / "source").iterdir())
    (edited.directory / "source" / "copy").write_bytes(one.read_bytes())
    ended = edited.upload()
    assert ended.status == 0
    (copy,) = [entry.result for entry in edited.entries() if entry.result.candidate.location.endswith("/copy")]
    assert copy.outcome is Outcome.SKIPPED
    assert copy.copy_of == str(one)


def test_a_report_has_the_uids_of_both(edited: Edited) -> None:
    """A line has the UIDs that the server has, and those of the source."""
    assert edited.upload().status == 0
    ended = call(edited.capsys, "report", str(edited.directory / "l.db"), "--format", "jsonl")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert {line["original_sop_instance_uid"] for line in lines} == {header(n).sop_instance_uid for n in (1, 2, 3)}
    assert {line["original_study_uid"] for line in lines} == {header(1).study_uid}
    assert all(line["study_uid"].startswith("2.25.") and line["study_uid"] != header(1).study_uid for line in lines)


def test_verify_compares_what_was_sent(edited: Edited) -> None:
    """From the ledger and from the source the edited bytes are compared; the line has the study's UID of both."""
    assert edited.upload().status == 0
    for words in ((), (str(edited.directory / "source"),)):
        status, (line,) = edited.verify(*words)
        assert (status, line["state"], line["expected"]) == (0, "complete", 3), words
        assert line["original_study_uid"] == header(1).study_uid
        assert line["study_uid"] == edited.entries()[0].result.header.study_uid  # type: ignore[union-attr]


def test_verify_finds_an_edited_instance_that_changed(edited: Edited) -> None:
    """A value that differs from the edited one is named."""
    assert edited.upload().status == 0
    one = edited.entries()[0].result.header
    assert one is not None
    stored = pydicom.dcmread(edited.storage.path(one))
    stored.PatientID = "A1"
    stored.save_as(edited.storage.path(one))
    status, (line,) = edited.verify()
    assert (status, line["state"], line["different"]) == (1, "different", [one.sop_instance_uid])
    assert "PatientID" in str(line["reason"])


def test_verify_without_the_edits_compares_uids_only(edited: Edited) -> None:
    """The list of instances is compared with the sent ones; level content says that it needs the edits."""
    assert edited.upload().status == 0
    ended = edited.run("verify", "--settle", "0s", "--format", "jsonl", edit=None)
    assert (ended.status, json.loads(ended.out)["state"]) == (0, "complete")
    status, (line,) = edited.verify(edit=None)
    assert (status, line["state"]) == (1, "unknown")
    assert "edited when it was sent: --edit with the same file compares it" in str(line["reason"])


def test_verify_of_the_source_says_that_its_edits_are_others(edited: Edited) -> None:
    """It looks for the UIDs that it makes of the source; from the ledger it looks for those that were sent."""
    assert edited.upload().status == 0
    source, words = str(edited.directory / "source"), ("--settle", "0s")
    ended = edited.run("verify", source, *words, edit=None)
    assert ended.status == 1
    assert "the last upload edited instances, this run not: instances are looked for by the UIDs" in ended.err
    assert edited.upload().status == 0
    for others in ((source,), ()):
        assert "the last upload" not in edited.run("verify", *others, *words).err


def test_a_value_without_a_row_is_a_failure(edited: Edited) -> None:
    """The reason names the attribute and the table, not the value; with `keep` the value stays."""
    (edited.directory / "ids.csv").write_text("old,new,issuer\nA1,N-100,NORTH\n")
    ended = edited.upload()
    assert ended.status == 1
    (failed,) = [entry.result for entry in edited.entries() if entry.result.outcome is not Outcome.STORED]
    assert (failed.outcome, failed.reason) == (
        Outcome.UNREADABLE,
        "cannot be edited: its (0010,0020) PatientID is not in ids.csv",
    )
    assert "PAT-0815" not in ended.says
    (edited.directory / "edits.toml").write_text(RULES.replace("[uids]", 'missing = "keep"\n[uids]'))
    assert edited.upload().status == 0
    assert sorted(one.PatientID for one in edited.stored().values()) == ["N-100", "N-100", "PAT-0815"]


def test_other_edits_leave_what_is_settled(edited: Edited) -> None:
    """A run says once that its edits are others; only new files get them."""
    assert edited.upload().status == 0
    (edited.directory / "edits.toml").write_text(RULES.replace("Clinic North", "Clinic South"))
    new = Path(write_instance(edited.directory / "source", 4).candidate.location)
    data_set = pydicom.dcmread(new)
    data_set.PatientID = "A1"
    data_set.save_as(new)
    ended = edited.upload()
    assert ended.status == 0
    assert ended.err.count("the edits are not those of the last upload: settled instances stay as they were sent") == 1
    names = sorted(one.InstitutionName for one in edited.stored().values())
    assert names == ["Clinic North", "Clinic North", "Clinic North", "Clinic South"]
    assert "edits are not those" not in edited.upload().err
    assert "the last upload edited instances, this run not" in edited.upload(edit=None).err


def test_a_plan_counts_what_would_be_sent(edited: Edited) -> None:
    """A plan has the failures of the edits, and knows the instances that an upload with them has sent."""
    (edited.directory / "ids.csv").write_text("old,new,issuer\nA1,N-100,NORTH\n")
    planned = edited.run("plan", str(edited.directory / "source"), "--format", "json")
    assert planned.status == 1
    assert json.loads(planned.out)["to_send"]["files"] == 2
    assert edited.upload().status == 1
    planned = edited.run("plan", str(edited.directory / "source"), "--format", "json")
    assert json.loads(planned.out)["to_send"]["files"] == 0


def test_filters_see_the_source(edited: Edited) -> None:
    """A study can be named by its UID at the source or at the server."""
    studies = edited.directory / "studies"
    studies.write_text(header(1).study_uid)
    assert edited.upload("--studies", str(studies)).status == 0
    assert len(edited.stored()) == 3
    studies.write_text(str(edited.entries()[0].result.header.study_uid))  # type: ignore[union-attr]
    ended = edited.upload("--studies", str(studies))
    assert ended.status == 0
    assert "3 of them by an earlier run" in ended.out


def test_no_key_and_no_patient_is_written_down(edited: Edited) -> None:
    """Neither the key nor an ID is in the ledger, the log, or the output."""
    (edited.directory / "ids.csv").write_text("old,new,issuer\nA1,N-100,NORTH\n")
    ended = edited.upload("--log", str(edited.directory / "run.log"), "--processes", "2")
    texts = [ended.says.encode(), (edited.directory / "run.log").read_bytes()]
    texts += [path.read_bytes() for path in edited.directory.glob("l.db*")]
    for secret in (KEY.encode(), b"N-100", b"PAT-0815", b"Doe^Jane"):
        assert not any(secret in text for text in texts), secret


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("[set", "Expected ']' at the end of a table declaration (at end of document)"),
        ("[sett]\nPatientID='1'", "sett: expected one of map, prefix, remove, set, suffix, uids"),
        ("[set]\nPatientIDD='1'", "set.PatientIDD: no attribute 'PatientIDD'"),
        ('[[map]]\nfile="none.csv"\nby="PatientID"', "none.csv: cannot be read (No such file or directory)"),
        ('[uids]\nmethod="regenerate"', "no key: give a key_file, or set BULKSTOW_EDIT_KEY"),
    ],
)
def test_rules_that_are_not_understood_are_wrong_usage(edited: Edited, rules: str, problem: str) -> None:
    """The message names the file and the key, before anything is sent."""
    (edited.directory / "edits.toml").write_text(rules)
    ended = edited.upload()
    assert ended.status == 2
    assert problem in ended.err
    assert "edits.toml" in ended.err or "none.csv" in ended.err


def test_the_key_may_be_in_the_environment(edited: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key gives the same UIDs, from the environment or a file."""
    assert edited.upload().status == 0
    (edited.directory / "edits.toml").write_text(RULES.replace('key_file = "edits.key"\n', ""))
    monkeypatch.setenv("BULKSTOW_EDIT_KEY", KEY)
    assert edited.upload(ledger="other.db").status == 0
    assert len(list((edited.directory / "root").rglob("*.dcm"))) == 3


def content_of(source: Source, path: Path) -> tuple[str, bytes]:
    """Return the name at the server and the bytes of a file after the edits."""
    instance = source.read_head(candidate(path))
    assert isinstance(instance, Instance)
    with closing(source.open(instance)) as drawn:
        data = bytearray(instance.size_bytes)
        SegmentReader(drawn).read_into(memoryview(data))
    return f"{instance.header.sop_instance_uid}.dcm", bytes(data)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_members_of_archives_are_edited(edited: Edited, processes: str) -> None:
    """Stored, deflated and compressed ones arrive as files do, and verify compares them with their archives."""
    files = sorted((edited.directory / "source").iterdir())
    source = EditedSource(FileSource(), edits_in(edited.directory / "edits.toml", {}))
    expected = dict(content_of(source, file) for file in files)
    with zipfile.ZipFile(edited.directory / "source" / "cd.zip", "w") as archive:
        archive.write(files[0], "DICOM/1", zipfile.ZIP_STORED)
        archive.write(files[1], "DICOM/2", zipfile.ZIP_DEFLATED)
    (edited.directory / "source" / "3.dcm.gz").write_bytes(gzip.compress(files[2].read_bytes()))
    for file in files:
        file.unlink()
    assert edited.upload("--processes", processes).status == 0
    assert {path.name: path.read_bytes() for path in (edited.directory / "root").rglob("*.dcm")} == expected
    names = [entry.result.candidate.location.rpartition("source/")[2] for entry in edited.entries()]
    assert names == ["3.dcm.gz", "cd.zip!/DICOM/1", "cd.zip!/DICOM/2"]
    for words in ((), (str(edited.directory / "source"),)):
        status, (line,) = edited.verify(*words)
        assert (status, line["state"], line["reason"]) == (0, "complete", ""), words


def test_missing_instances_are_sent_again_with_the_edits(edited: Edited) -> None:
    """`verify --repair` edits as the upload did."""
    assert edited.upload().status == 0
    before = {path: path.read_bytes() for path in (edited.directory / "root").rglob("*.dcm")}
    lost = edited.entries()[0].result.header
    assert lost is not None
    anyio.run(edited.storage.remove, lost.study_uid, lost.series_uid, lost.sop_instance_uid)
    assert len(list((edited.directory / "root").rglob("*.dcm"))) == 2
    status, lines = edited.verify("--repair")
    assert (status, [line["state"] for line in lines]) == (0, ["incomplete", "complete"])
    assert {path: path.read_bytes() for path in (edited.directory / "root").rglob("*.dcm")} == before
