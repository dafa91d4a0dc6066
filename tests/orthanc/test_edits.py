"""All test files in one tree, edited while they are sent to an Orthanc."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkstow.model import Outcome
from bulkstow.wire.edit_rules import Edits, Regenerate
from tests.orthanc.command import Upload, bulkstow
from tests.orthanc.conftest import Alone
from tests.orthanc.servers import Orthanc

pytestmark = pytest.mark.orthanc

KEY = "a key of the tests only"
RULES = """
[set]
InstitutionName = "Clinic North"
ImageComments = "edited"
[uids]
method = "regenerate"
key_file = "edits.key"
"""
SUCCESSES = {outcome.value for outcome in Outcome if outcome.is_success}


def test_a_mixed_tree_arrives_with_its_new_uids(orthanc: Orthanc, mixed: Path, alone: Alone, tmp_path: Path) -> None:
    """Orthanc takes the same instances, under the UIDs that the key gives, and verify compares each with its file.

    An instance that cannot be edited is a failure with a reason, and is not sent.
    """
    (tmp_path / "edits.toml").write_text(RULES)
    (tmp_path / "edits.key").write_text(KEY)
    options = ("--accept-missing-preamble", "--edit", str(tmp_path / "edits.toml"), "--processes", "2")
    upload = Upload(mixed, orthanc.url, tmp_path, ("--progress", "none", *options))
    upload.run()
    report = upload.report()
    new_uid = Edits(uids=Regenerate(KEY.encode())).new_uid
    stored = {
        line["sop_instance_uid"]: line["original_sop_instance_uid"] for line in report if line["outcome"] in SUCCESSES
    }
    assert orthanc.instances() == stored.keys()
    assert all(sent == new_uid(original) for sent, original in stored.items())
    unedited = [line for line in report if line["reason"].startswith("cannot be edited: ")]
    assert all(line["outcome"] == "unreadable" for line in unedited)
    missing = alone.instances - set(stored.values())
    assert len(missing) <= len(unedited), missing
    where = ("--url", orthanc.url, "--ledger", str(upload.ledger), "--edit", str(tmp_path / "edits.toml"))
    ended = bulkstow(
        "verify", *where, "--level", "content", "--format", "jsonl", "--settle", "0s", "--progress", "none"
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert not [line for line in lines if line["state"] == "unknown"]
    assert sum(line["state"] == "complete" for line in lines) > len(lines) / 2
