"""The frame of a page."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from bulkstow.pages.document import document


def test_a_page_without_a_script_allows_none() -> None:
    """The policy of such a page lets nothing run and requests nothing."""
    page = document("a <title>", ["<p>one</p>", "<p>two</p>"], style="p { margin: 0; }")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'" in page
    assert "<title>a &lt;title&gt;</title>" in page
    assert "<script" not in page
    assert (
        page.index("color-scheme: light dark") < page.index("p { margin: 0; }") < page.index("<p>one</p>\n<p>two</p>")
    )


def test_the_script_of_a_page_is_allowed_by_its_hash() -> None:
    """The policy names the hash of the script; the data for it come before it."""
    page = document("t", [], script="run();", data="<data value='1'></data>")
    digest = b64encode(sha256(b"run();").digest()).decode()
    assert re.search(f"script-src 'sha256-{re.escape(digest)}' blob:;", page)
    assert page.index("<data") < page.index("<script>run();</script>")
