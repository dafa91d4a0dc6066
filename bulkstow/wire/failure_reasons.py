"""Reasons for failures and warnings: codes and comments of the standard and of known servers.

Tables only. `wire.server_profile` looks codes and words up, and `policy.settlement` decides what they lead to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """The meaning of a failure for a retry of the same instance."""

    RETRY = "retry"
    """The cause passes within seconds."""
    RETRY_SLOWLY = "retry slowly"
    """The cause passes, but not within seconds."""
    BUSY = "busy"
    """The server is out of resources: stop sending for a while (opens the circuit breaker)."""
    AMBIGUOUS = "ambiguous"
    """The cause is the content or temporary: send the instance alone, and only a few times."""
    PERMANENT = "permanent"
    """The same bytes fail again."""
    DUPLICATE = "duplicate"
    """The server has the instance."""
    OTHER_CONTENT = "other content"
    """The server keeps an instance with this UID and other content: permanent. QIDO-RS would find that instance."""
    NOT_AUTHORISED = "not authorised"
    """Permanent; if every instance gets it, the login lacks the right to store."""


@dataclass(frozen=True, slots=True)
class FailureWords:
    """A pattern of a server's comment and its meaning."""

    pattern: re.Pattern[str]
    failure: FailureClass


@dataclass(frozen=True, slots=True)
class FailureReason:
    """The codes `first` to `last`, both included, and their meaning."""

    first: int
    last: int
    failure: FailureClass
    meaning: str
    is_vague: bool = False
    """Servers send this code for any failure, so a comment that is understood decides instead."""


FAILURE_REASONS = (
    # dcm4chee-arc: the patient conflict and rejection codes sit inside the A7xx of PS3.4.
    FailureReason(0xA77A, 0xA77A, FailureClass.RETRY_SLOWLY, "study is being deleted"),
    FailureReason(0xA770, 0xA77B, FailureClass.PERMANENT, "rejected by the archive's rules"),
    # PS3.18 Table I.2-2, PS3.4 Table B.2-1; Orthanc with a full disk.
    FailureReason(0xA700, 0xA7FF, FailureClass.BUSY, "out of resources"),
    # PS3.4 Table B.2-1; Azure: the data set fails validation (A900), is of another study (A901).
    FailureReason(0xA900, 0xA9FF, FailureClass.PERMANENT, "data set does not match SOP class"),
    # Azure, among the warnings of PS3.4 and yet failures: in a 202 or 409.
    FailureReason(0xB00E, 0xB00E, FailureClass.DUPLICATE, "already stored"),
    FailureReason(0xB00F, 0xB00F, FailureClass.RETRY, "being stored by another request"),
    # PS3.18 Table I.2-2.
    FailureReason(0xC122, 0xC122, FailureClass.PERMANENT, "transfer syntax not supported"),
    # PS3.4 Table B.2-1. Google and others send C000 for any failure.
    FailureReason(0xC000, 0xC000, FailureClass.PERMANENT, "cannot understand", is_vague=True),
    FailureReason(0xC000, 0xCFFF, FailureClass.PERMANENT, "cannot understand"),
    # PS3.7 Annex C, from here on.
    FailureReason(0x0106, 0x0106, FailureClass.PERMANENT, "invalid attribute value"),
    # Bad content at Google, a race in the database at dcm4chee, a study other than the URL's at Orthanc.
    FailureReason(0x0110, 0x0110, FailureClass.AMBIGUOUS, "processing failure", is_vague=True),
    FailureReason(0x0111, 0x0111, FailureClass.DUPLICATE, "duplicate SOP instance"),
    # "No such SOP instance" in PS3.7, "SOP class not supported" in PS3.4 for storage.
    FailureReason(0x0112, 0x0112, FailureClass.PERMANENT, "no such SOP class or instance"),
    FailureReason(0x0117, 0x0117, FailureClass.PERMANENT, "invalid SOP instance"),
    FailureReason(0x0118, 0x0118, FailureClass.PERMANENT, "no such SOP class"),
    FailureReason(0x0119, 0x0119, FailureClass.PERMANENT, "class and instance conflict"),
    FailureReason(0x0120, 0x0120, FailureClass.PERMANENT, "missing attribute"),
    FailureReason(0x0121, 0x0121, FailureClass.PERMANENT, "missing attribute value"),
    FailureReason(0x0122, 0x0122, FailureClass.PERMANENT, "SOP class not supported"),
    FailureReason(0x0117, 0x0122, FailureClass.PERMANENT, "invalid SOP instance or class"),
    FailureReason(0x0124, 0x0124, FailureClass.NOT_AUTHORISED, "not authorised"),
    # A DIMSE archive behind a DICOMweb proxy.
    FailureReason(0x0210, 0x0212, FailureClass.PERMANENT, "protocol error behind a proxy"),
    FailureReason(0x0213, 0x0213, FailureClass.RETRY, "resource limitation"),
    # PS3.2 Table N.7-42 prints 0214 where PS3.7 has 0124.
    FailureReason(0x0214, 0x0214, FailureClass.NOT_AUTHORISED, "not authorised"),
)
"""Failure reasons. The first row with a code counts, so special codes precede the range that contains them."""

WARNING_REASONS = {
    # PS3.18 Table I.2-1; all three mean stored.
    0xB000: "coerced",
    0xB006: "elements discarded",
    # Azure too, where an optional attribute fails validation.
    0xB007: "data set does not match SOP class",
}

_EXISTS = (
    r"(?:(?<!study[ _])(?<!series[ _])\b(?:SOP[ _]?)?instance(?:[ _]?UID)?[ =:'\"]*[0-9.]*['\"]?(?: has)?"
    r" already (?:exists|stored|been stored)|^already[ _]exists)"
)
_PLACE = r"(?: in (?:this |the )?(?:DICOM )?(?:data ?)?(?:store|server|archive|database|system|PACS)(?: [\w./:-]+)?)?"
_NAME = r"(?:[:,]? (?:with the same [\w/ ]{1,40} UIDs?|(?:SOP ?Instance ?UID[ =:]*)?[0-9.]+))?"

FAILURE_WORDS = (
    # Google, FailureDetail beside 0110: "An instance already exists in this DICOM Store with the same
    # Study/Series/SOPInstance UID, but the DICOM files differ (checksum mismatch)."
    FailureWords(
        re.compile(rf"{_EXISTS}.*\b(?:differ\w*|(?:checksum|content|hash) mismatch)\b", re.IGNORECASE),
        FailureClass.OTHER_CONTENT,
    ),
    # Google, and error.status of its APIs: ALREADY_EXISTS.
    FailureWords(
        re.compile(rf"{_EXISTS}{_PLACE}{_NAME}\W*$", re.IGNORECASE),
        FailureClass.DUPLICATE,
    ),
)
"""Comments on failures. The first row that matches counts. Only an existing instance is a duplicate, not an existing
study or patient; a sentence that continues in an unknown way does not match."""
