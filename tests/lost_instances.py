"""The scenario of a migration with losses: the instances sent, the instances lost, and the expected findings.

`verify` and `upload` are run as commands in this process; the server is real and loses instances behind their back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from bulkstow.model import Header
from bulkstow.wire.synthetic import part10
from tests.cli.command import Ended, call
from tests.orthanc.archives import header

STUDIES = 40
LARGE, SMALL = 210, 5
"""Instances of the first study, more than two pages of 100, and of every other study."""

GONE = (header(1, 1), header(1, 150), header(2, 3))
"""The instances that the server loses."""

GONE_STUDY = header(STUDIES, 1).study_uid
REPLACED = header(5, 2)
"""The instance that the server has with other pixels."""


class Losing(Protocol):
    """A server; a test changes its content without bulkstow."""

    @property
    def url(self) -> str:
        """The DICOMweb root."""

    def instances(self) -> frozenset[str]:
        """Return the SOP Instance UIDs that it has, not by QIDO-RS."""

    def lose(self, *uids: str) -> None:
        """Remove a study, a series or an instance."""

    def replace(self, replaced: Header, content: bytes) -> None:
        """Have other bytes under the UIDs of an instance."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Forty studies."""

    directory: Path
    headers: Mapping[str, Header] = field(default_factory=dict)
    """By SOP Instance UID."""

    @classmethod
    def made_in(cls, directory: Path) -> Archive:
        """Write the files of an archive."""
        headers = {}
        for study in range(1, STUDIES + 1):
            folder = directory / f"study{study:02}"
            folder.mkdir(parents=True)
            for number in range(1, (LARGE if study == 1 else SMALL) + 1):
                uids = header(study, number)
                headers[uids.sop_instance_uid] = uids
                (folder / f"IM{number:06}").write_bytes(content(uids))
        return cls(directory, headers)

    @property
    def of_gone_study(self) -> frozenset[str]:
        """The instances of the study that the server loses."""
        return frozenset(uid for uid, uids in self.headers.items() if uids.study_uid == GONE_STUDY)


def content(uids: Header, *, number: int = 1) -> bytes:
    """Return an instance; another number has other pixels."""
    return part10(uids, rows=16, columns=16, number=number)


@dataclass(frozen=True, slots=True)
class Migration:
    """An archive, a server, and a ledger that all commands share."""

    archive: Archive
    server: Losing
    directory: Path
    capsys: pytest.CaptureFixture[str]
    options: tuple[str, ...] = ()
    """Of `verify`."""

    def upload(self, *options: str) -> dict[str, Any]:
        """Upload the archive, and return the summary."""
        summary = self.directory / "summary.json"
        words = ("upload", str(self.archive.directory), "--summary", str(summary), *self._common, *options)
        ended = call(self.capsys, *words)
        assert ended.status == 0, ended.says
        figures: dict[str, Any] = json.loads(summary.read_text())
        return figures

    def verify(self, *options: str) -> Verified:
        """Verify the instances in the ledger, and return the lines by study."""
        ended = call(self.capsys, "verify", *self._common, "--format", "jsonl", *self.options, *options)
        return Verified.of(ended)

    @property
    def _common(self) -> Sequence[str]:
        return ("--url", self.server.url, "--ledger", str(self.directory / "ledger.db"), "--progress", "none")


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification."""

    status: int
    studies: Mapping[str, dict[str, Any]]
    """The lines, by Study Instance UID; the last of each."""
    lines: int
    says: str

    @classmethod
    def of(cls, ended: Ended) -> Verified:
        """Read the output of `verify`; `--repair` prints a study again when it is verified again."""
        lines = [json.loads(line) for line in ended.out.splitlines()]
        studies = {line["study_uid"]: line for line in lines}
        return cls(ended.status, studies, len(lines), ended.says)

    def named(self, key: str) -> frozenset[str]:
        """Return all SOP Instance UIDs that are `missing`, `different` or `extra`."""
        return frozenset(uid for line in self.studies.values() for uid in line[key])

    def in_state(self, *states: str) -> frozenset[str]:
        """Return the studies in these states."""
        return frozenset(study for study, line in self.studies.items() if line["state"] in states)


def prove(migration: Migration) -> None:
    """Upload, lose, verify, upload again, and verify: exactly the lost instances are named and sent again.

    The server may have any quirk that hides no instance permanently.
    """
    archive, server = migration.archive, migration.server
    assert migration.upload()["outcomes"]["stored"] == len(archive.headers)
    clean = migration.verify()
    assert (clean.status, clean.lines, len(clean.in_state("complete"))) == (0, STUDIES, STUDIES), clean.says

    for uids in GONE:
        server.lose(uids.study_uid, uids.series_uid, uids.sop_instance_uid)
    server.lose(GONE_STUDY)
    server.replace(REPLACED, content(REPLACED, number=2))

    gone = frozenset(uids.sop_instance_uid for uids in GONE) | archive.of_gone_study
    lossy = migration.verify()
    assert lossy.status == 1, lossy.says
    assert lossy.named("missing") == gone
    assert lossy.in_state("incomplete") == {uids.study_uid for uids in GONE}
    assert lossy.in_state("absent") == {GONE_STUDY}
    assert len(lossy.in_state("complete")) == STUDIES - 3
    assert lossy.named("different") == lossy.named("extra") == frozenset()

    different = migration.verify("--level", "content")
    assert different.status == 1, different.says
    assert different.named("missing") == gone
    assert different.named("different") == {REPLACED.sop_instance_uid}
    assert different.in_state("different") == {REPLACED.study_uid}

    server.replace(REPLACED, content(REPLACED))
    assert migration.verify("--level", "content").named("different") == frozenset()
    again = migration.upload()
    assert sum(again["outcomes"].values()) - again["settled_before"] == len(gone)
    assert server.instances() == archive.headers.keys()

    repaired = migration.verify()
    assert (repaired.status, len(repaired.in_state("complete"))) == (0, STUDIES), repaired.says
