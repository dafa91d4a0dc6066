"""The UIDs of made-up archives that exist as rows and answers only."""

from __future__ import annotations

from bulkstow.model import Header
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE

ROOT_UID = "2.25.20261129"


def study_uid(study: int) -> str:
    """Return the UID of a study, by its number from 0."""
    return f"{ROOT_UID}.{study + 1}"


def series_uid(study: int) -> str:
    """Return the UID of a study's only series."""
    return f"{study_uid(study)}.1"


def instance_uid(study: int, number: int) -> str:
    """Return the UID of an instance, by its number from 0."""
    return f"{series_uid(study)}.{number + 1}"


def header_of(study: int, number: int) -> Header:
    """Return the UIDs of an instance, by its numbers from 0."""
    uids = (study_uid(study), series_uid(study), instance_uid(study, number))
    return Header(*uids, SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
