"""Claims about a quick start: what is turned off is turned on again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_QUICK = """
import gc, os, ssl
from bulkstow.platform.start_up import CERTIFICATE_VARIABLES, quick_start

def state():
    return gc.isenabled(), [os.environ.get(name) for name in CERTIFICATE_VARIABLES]

before = state()
with quick_start():
    during, hidden = state(), ssl.create_default_context().cert_store_stats()["x509"]
assert not during[0] and hidden == 0, (during, hidden)
assert state() == before, (state(), before)
print(gc.get_freeze_count() > 1_000, gc.get_threshold()[0])
"""


@pytest.mark.parametrize("own", [{}, {"SSL_CERT_FILE": "/etc/own.pem"}], ids=["the system's", "one's own"])
def test_collector_and_certificates_are_back_afterwards(own: dict[str, str]) -> None:
    """Meanwhile nothing is collected and no certificate is loaded; afterwards all is as before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSL_")} | own
    ended = subprocess.run([sys.executable, "-c", _QUICK], capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.stdout, ended.stderr) == ("True 20000\n", "")
