"""Opening the files of an archive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkstow.source.opening import REPLACED, open_file


def test_a_link_that_the_scan_did_not_see_is_not_followed(tmp_path: Path) -> None:
    """A regular file opens; a link in its place is refused with a reason, unless the scan followed a link there."""
    (tmp_path / "foreign").write_bytes(b"123")
    link = tmp_path / "link"
    link.symlink_to("foreign")
    for path, by_link in ((tmp_path / "foreign", False), (link, True)):
        descriptor = open_file(str(path), by_link=by_link)
        assert os.read(descriptor, 9) == b"123"
        os.close(descriptor)
    with pytest.raises(OSError, match=REPLACED):
        open_file(str(link), by_link=False)


def test_a_circular_link_has_the_text_of_the_system(tmp_path: Path) -> None:
    """A file that was a link at the scan is not reported as replaced."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        open_file(str(tmp_path / "loop"), by_link=True)
