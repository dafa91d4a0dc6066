"""Names of UIDs: those of pydicom, without pydicom."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.uid import UID

from bulkstow.cli.uid_names import _dictionary, name_of_uid


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "CT Image Storage"),
        ("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
        ("1.2.840.10008.5.1.4.1.1.6", "Ultrasound Image Storage (retired)"),
        ("1.2.3.4", "1.2.3.4"),
        ("", "none"),
        (None, "not known"),
    ],
)
def test_a_uid_is_named(uid: str | None, name: str) -> None:
    """A UID of the standard has its name, another one stays as it is."""
    assert name_of_uid(uid) == name


def test_the_names_are_those_of_pydicom() -> None:
    """The dictionary is complete."""
    assert len(_dictionary()) > 400
    assert {uid: entry[0] for uid, entry in _dictionary().items()} == {uid: UID(uid).name for uid in _dictionary()}


def test_pydicom_is_not_imported() -> None:
    """Names are read without importing pydicom, since its import takes longer than a small plan."""
    script = (
        "import sys; from bulkstow.cli.uid_names import name_of_uid; "
        "name_of_uid('1.2'); print({'pydicom', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"
