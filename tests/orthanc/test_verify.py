"""`verify` against Orthanc: deleted and replaced instances are named, and deleted ones are sent again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkstow.model import Header
from tests.lost_instances import Archive, Migration, prove
from tests.orthanc.servers import Orthanc

pytestmark = pytest.mark.orthanc


@dataclass(frozen=True, slots=True)
class LosingOrthanc:
    """An Orthanc that loses instances by its own interface."""

    orthanc: Orthanc

    @property
    def url(self) -> str:
        """The DICOMweb root."""
        return self.orthanc.url

    def instances(self) -> frozenset[str]:
        """Return the SOP Instance UIDs that it has."""
        return self.orthanc.instances()

    def lose(self, *uids: str) -> None:
        """Delete a study, a series or an instance."""
        found = json.loads(self.orthanc.ask("POST", "/tools/lookup", uids[-1].encode()).body)
        (path,) = [item["Path"] for item in found]
        assert self.orthanc.ask("DELETE", path).status == 200

    def replace(self, replaced: Header, content: bytes) -> None:
        """Delete an instance, and store another."""
        self.lose(replaced.sop_instance_uid)
        assert self.orthanc.store_alone(content).listed == {replaced.sop_instance_uid}


def test_what_is_lost_is_named_and_sent_again(
    orthanc: Orthanc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly the lost instances and study, and the replaced instance, are named; the next upload sends the lost."""
    archive = Archive.made_in(tmp_path / "archive")
    prove(Migration(archive, LosingOrthanc(orthanc), tmp_path, capsys, ("--settle", "0s")))
