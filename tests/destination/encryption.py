"""Certificates for servers of tests, and TLS connections in memory."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

import trustme

from bulkstow.destination.tls import SharedTls, share


@cache
def _authority() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost")


def server_context(directory: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return the context of a server at localhost, and write `ca.pem`, which clients trust, to a directory."""
    authority, certificate = _authority()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.maximum_version = version
    certificate.configure_cert(context)
    return context


def write_server_files(directory: Path) -> None:
    """Write the server's key and certificate as `server.pem`, and `ca.pem`, to a directory."""
    authority, certificate = _authority()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))


def client_context() -> ssl.SSLContext:
    """Return a context that trusts the server and gives `SharedTls`."""
    context = ssl.create_default_context()
    _authority()[0].configure_trust(context)
    share(context)
    return context


class Pair:
    """Both ends of a connection, and what is on its way between them."""

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.to_client, self.from_client, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
        accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accepting.maximum_version = version
        _authority()[1].configure_cert(accepting)
        self.server = accepting.wrap_bio(self.to_server, self.to_client, server_side=True)
        tls = client_context().wrap_bio(self.to_client, self.from_client, server_hostname="localhost")
        assert isinstance(tls, SharedTls)
        self.client = tls

    def shake_hands(self) -> None:
        """Complete the handshake."""
        ends: list[ssl.SSLObject] = [self.client, self.server]
        while ends:
            for end in tuple(ends):
                try:
                    end.do_handshake()
                    ends.remove(end)
                except ssl.SSLWantReadError:
                    pass
                self.deliver()

    def deliver(self) -> None:
        """Take to the server what asyncio has to send."""
        self.to_server.write(self.from_client.read())

    def received(self) -> bytes:
        """Return what the server can decrypt."""
        received = b""
        try:
            while True:
                received += self.server.read(2**20)
        except ssl.SSLWantReadError:
            return received


def connect() -> tuple[SharedTls, ssl.SSLObject, ssl.MemoryBIO]:
    """Return the client's end of a connection, the server's, and what the server reads from."""
    pair = Pair()
    pair.shake_hands()
    return pair.client, pair.server, pair.to_server
