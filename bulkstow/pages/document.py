"""The frame of a page: one file that requests nothing from the network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from importlib.resources import files

from bulkstow.pages.markup import text


def document(title: str, body: Iterable[str], *, style: str = "", script: str = "", data: str = "") -> str:
    """Return a page; `body` is markup, `style` follows the common style, `data` are elements that the script reads.

    Only `script` and scripts that it creates run: the page's Content-Security-Policy has its hash.
    """
    # Styles are inline, as Plotly sets them. Even injected markup can request nothing from the network.
    scripts = f"script-src '{_hash(script)}' blob:; img-src data: blob:" if script else "img-src data:"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; {scripts}; base-uri 'none'; form-action 'none'"
    common = files("bulkstow.pages").joinpath("base.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{common}{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>\n{data}"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def _hash(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"
