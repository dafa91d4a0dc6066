"""A tree with everything in it, sent to an Orthanc from each kind of source: the same instances, the same reasons."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pydicom
import pytest

from bulkstow.cli.app import status
from bulkstow.model import Outcome
from bulkstow.server.storage import DirectoryStorage
from tests.cli.command import served
from tests.object_stores import BUCKET, LOGIN, moto
from tests.orthanc.archives import mixed
from tests.orthanc.command import Ended, Upload
from tests.orthanc.conftest import StartOrthanc
from tests.orthanc.servers import Orthanc
from tests.source.test_dicomdir import write_dicomdir
from tests.sources_end_to_end.packing import PACKERS, in_unicode, missing_program, names_in

pytestmark = pytest.mark.orthanc

LARGEST_BYTES = 400_000
"""The tree without the few larger files has a tenth of the bytes."""

OPTIONS = ("--progress", "none", "--accept-missing-preamble")

COMPRESSED = (".gz", ".bz2", ".xz")

Results = Counter[tuple[str, str, str | None]]
"""Outcome, reason and SOP Instance UID of all files, however they are named."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The results of a run, and the server's instances after it."""

    ended: Ended
    lines: list[dict[str, Any]]
    """The report."""
    digests: Mapping[str, str]
    """The MD5 of each instance at the server, by SOP Instance UID."""
    summary: Mapping[str, Any]

    @property
    def results(self) -> Results:
        """The results of all files."""
        return results_of(self.lines)

    @property
    def in_archives(self) -> Results:
        """The results of the members of archives, and of compressed files, in the tree itself."""
        return results_of([line for line in self.lines if "!/" in line["path"] or line["path"].endswith(COMPRESSED)])


def reason_of(line: Mapping[str, Any]) -> str:
    """Return the reason of a report's line without the location of another file."""
    reason: str = (line["reason"] or "").partition(": ")[0]
    return re.sub(r"(?s)(the same SOP Instance UID as ).*(, other bytes)", r"\1...\2", reason)


def report_of(ledger: Path) -> list[dict[str, Any]]:
    """Return the lines of `bulkstow report`, which is run in this process as a new one would take longer than it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    with redirect_stdout(out):
        assert status(["report", str(ledger), "--format", "jsonl"]) == 0
    out.seek(0)
    return [json.loads(line) for line in out]


def results_of(lines: list[dict[str, Any]]) -> Results:
    """Return the results in the lines of a report."""
    return Counter((line["outcome"], reason_of(line), line["sop_instance_uid"]) for line in lines)


def digests_at(orthanc: Orthanc) -> dict[str, str]:
    """Return the MD5 of each instance, as Orthanc computed it when it received the bytes."""
    digests = {}
    for instance in json.loads(orthanc.ask("GET", "/instances?expand").body):
        answer = orthanc.ask("GET", f"/instances/{instance['ID']}/attachments/dicom/md5")
        digests[instance["MainDicomTags"]["SOPInstanceUID"]] = answer.body.decode()
    return digests


def clear(orthanc: Orthanc) -> None:
    """Delete everything."""
    resources = json.loads(orthanc.ask("GET", "/patients").body)
    if resources:
        answer = orthanc.ask("POST", "/tools/bulk-delete", json.dumps({"Resources": resources}).encode())
        assert answer.status == 200
    assert orthanc.count() == 0


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the tree, which no test may change.

    One of pydicom's files is compressed, and in conflict with another one: the first of the two is not always the same.
    """
    tree = tmp_path_factory.mktemp("tree") / "archive"
    mixed(tree)
    for name in names_in(tree):
        if (tree / name).stat().st_size > LARGEST_BYTES:
            (tree / name).unlink()
    (tree / "pydicom" / "zipMR.gz").unlink()
    return tree


@dataclass(frozen=True, slots=True)
class Reference:
    """The tree itself, sent to an Orthanc that keeps it."""

    orthanc: Orthanc
    sent: Sent


@pytest.fixture(scope="module")
def reference(start_orthanc: StartOrthanc, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """Give an Orthanc with the directory, and the results."""
    orthanc = start_orthanc()
    yield Reference(orthanc, send(tree, orthanc, tmp_path_factory.mktemp("reference")))
    orthanc.kill()


@pytest.fixture(scope="module")
def second(start_orthanc: StartOrthanc) -> Iterator[Orthanc]:
    """Give an Orthanc that each test clears."""
    orthanc = start_orthanc()
    yield orthanc
    orthanc.kill()


@pytest.fixture
def destination(second: Orthanc) -> Orthanc:
    """Give an Orthanc with no data."""
    clear(second)
    return second


def send(
    source: Path | str, orthanc: Orthanc, directory: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Sent:
    """Upload a source with a ledger in a directory, and return the result."""
    upload = Upload(source, orthanc.url, directory, (*OPTIONS, *options), environment)
    ended = upload.run()
    assert ended.stderr == ""
    return Sent(ended, report_of(upload.ledger), digests_at(orthanc), upload.summary())


def check_a_second_run(
    source: Path | str, orthanc: Orthanc, directory: Path, *options: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run an upload again: it sends nothing, and says the same."""
    upload = Upload(source, orthanc.url, directory, (*OPTIONS, *options), environment)
    before = upload.summary()["outcomes"]
    upload.run()
    assert (upload.summary()["requests"], upload.summary()["outcomes"]) == (0, before)


def check_same(sent: Sent, reference: Sent) -> None:
    """Check that each file has the same result, and that the server has the same bytes of each instance."""
    assert (sent.results - reference.results, reference.results - sent.results) == (Counter(), Counter())
    assert sent.summary["outcomes"] == reference.summary["outcomes"]
    assert sent.digests.keys() == reference.digests.keys()
    assert different_digests(sent, reference) == set()


def different_digests(sent: Sent, reference: Sent) -> set[str]:
    """Return the instances of which the server has other bytes.

    Of files in conflict the server has the first one, and each source has its own order.
    """
    in_conflict = {uid for outcome, _, uid in reference.results if outcome == Outcome.CONFLICT}
    return {uid for uid, _ in sent.digests.items() - reference.digests.items()} - in_conflict


RUN_TWICE = {"zip, deflated", "tar.gz", "gzip files"}
"""One of those whose members have a version of the same kind."""


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "zip in tar"])
def test_packed_files(kind: str, tree: Path, reference: Reference, destination: Orthanc, tmp_path: Path) -> None:
    """Each file of the tree has the same outcome, reason and bytes at the server; a second run sends nothing."""
    if program := missing_program(kind):
        pytest.skip(f"the program {program} is not installed")
    (tmp_path / "packed").mkdir()
    source = PACKERS[kind](tree, tmp_path / "packed")
    check_same(send(source, destination, tmp_path), reference.sent)
    if kind in RUN_TWICE:
        check_a_second_run(source, destination, tmp_path)


def check_same_without_archives(sent: Sent, reference: Sent) -> None:
    """Check that the archives in the tree are unreadable as such, and that all other files have the same results."""
    assert reference.results - sent.results == reference.in_archives
    for outcome, reason, _ in sent.results - reference.results:
        assert (outcome, reason.partition(", ")[2]) == (Outcome.UNREADABLE, "which was not looked into")
    stored = {uid for outcome, _, uid in reference.in_archives if outcome == Outcome.STORED}
    assert sent.digests.keys() == reference.digests.keys() - stored
    assert different_digests(sent, reference) == set()


def test_a_zip_in_a_tar(tree: Path, reference: Reference, destination: Orthanc, tmp_path: Path) -> None:
    """The archives in the tree are then archives in an archive in an archive, which are not looked into."""
    if program := missing_program("zip in tar"):
        pytest.skip(f"the program {program} is not installed")
    source = PACKERS["zip in tar"](tree, tmp_path)
    check_same_without_archives(send(source, destination, tmp_path), reference.sent)
    check_a_second_run(source, destination, tmp_path)


def test_a_bucket(tree: Path, reference: Reference, destination: Orthanc, tmp_path: Path) -> None:
    """Of a bucket archives are not looked into; all else is as from the directory."""
    with moto() as store:
        store.clear()
        for name in names_in(tree):
            key = in_unicode(name).replace("\n", " ")  # moto knows no key with a line feed
            store.put(key, (tree / name).read_bytes())
        source = f"s3://{BUCKET}"
        options = ("--source-endpoint", store.endpoint, "--source-concurrency", "1")  # in the order of the keys
        check_same_without_archives(send(source, destination, tmp_path, *options, environment=LOGIN), reference.sent)
        check_a_second_run(source, destination, tmp_path, *options, environment=LOGIN)


def test_a_file_set(tree: Path, reference: Reference, destination: Orthanc, tmp_path: Path) -> None:
    """The files that a DICOMDIR references have the same results as from a directory; it itself is skipped."""
    disc = tmp_path / "disc"
    (disc / "DICOM").mkdir(parents=True)
    names = [f"IM{number:06}" for number, _ in enumerate(names_in(tree))]
    for name, original in zip(names, names_in(tree), strict=True):
        (disc / "DICOM" / name).hardlink_to(tree / original)
    uids = {line["path"]: line["sop_instance_uid"] for line in reference.sent.lines}
    records = [
        (("DICOM", name), uids.get(str(tree / original)) or "2.25.1")
        for name, original in zip(names, names_in(tree), strict=True)
    ]
    with pydicom.config.disable_value_validation():  # some UIDs are none
        write_dicomdir(disc / "DICOMDIR", records)
    sent = send(disc, destination, tmp_path, "--dicomdir")
    own = [line for line in sent.lines if line["path"] == str(disc / "DICOMDIR")]
    assert [reason_of(line) for line in own] == ["a DICOMDIR"]
    assert sent.results - reference.sent.results == results_of(own)
    assert sent.digests.keys() == reference.sent.digests.keys()
    assert different_digests(sent, reference.sent) == set()
    check_a_second_run(disc, destination, tmp_path, "--dicomdir")


def test_another_orthanc(reference: Reference, destination: Orthanc, tmp_path: Path) -> None:
    """All instances of one Orthanc arrive at another with the same bytes; a second run fetches nothing."""
    source = f"dicomweb+{reference.orthanc.url}"
    sent = send(source, destination, tmp_path)
    assert (sent.ended.status, sent.digests) == (0, reference.sent.digests)
    assert sent.summary["outcomes"][Outcome.STORED] == len(sent.digests) == sent.results.total()
    check_a_second_run(source, destination, tmp_path)


def test_the_embedded_server(reference: Reference, destination: Orthanc, tmp_path: Path) -> None:
    """All instances that the embedded server takes pass through it, as destination and as source, with the same bytes.

    It refuses three data sets without preamble, and an instance whose UIDs are none.
    """
    for name in ("there", "back"):
        (tmp_path / name).mkdir()
    with served(DirectoryStorage(tmp_path / "root")) as url:
        there = Upload(f"dicomweb+{reference.orthanc.url}", url, tmp_path / "there", OPTIONS)
        there.run()
        refused = [line for line in there.report() if line["outcome"] != Outcome.STORED]
        sent = send(f"dicomweb+{url}", destination, tmp_path / "back")
    assert len(refused) == 4
    assert {line["outcome"] for line in refused} == {Outcome.REFUSED}
    assert sent.ended.status == 0
    assert dict(sent.digests) | {line["sop_instance_uid"]: ANY for line in refused} == reference.sent.digests
