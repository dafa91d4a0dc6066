"""The proxy for a URL, from the environment, as curl reads it.

Pure: the environment is a mapping, and no name is resolved. One difference from curl: `HTTP_PROXY` in upper case
counts, except in CGI programs, where a request's `Proxy` header sets it (CVE-2016-5385; curl never reads it).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bulkstow.errors import ConfigurationError

DEFAULT_PORTS = {"http": 1080, "https": 443}
"""curl's ports for a proxy URL without one."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    url: str = field(repr=False)
    """With the port, and the login if there is one."""
    name: str
    """Host and port, for messages."""
    variable: str
    """The environment variable with the URL."""


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL, or None.

    Raises ConfigurationError for a value that is not a proxy, and for an unsupported kind; the message repeats no
    password.
    """
    scheme = urlsplit(url).scheme
    for variable in _variables(scheme, environment):
        if value := environment.get(variable, "").strip():
            return None if _is_exempt(url, environment) else _parse(value, variable)
    return None


def _variables(scheme: str, environment: Mapping[str, str]) -> Iterator[str]:
    yield f"{scheme}_proxy"
    if scheme != "http" or "REQUEST_METHOD" not in environment:
        yield f"{scheme.upper()}_PROXY"
    yield "all_proxy"
    yield "ALL_PROXY"


def _parse(value: str, variable: str) -> Proxy:
    has_scheme = "://" in value
    try:
        parts = urlsplit(value if has_scheme else f"http://{value}")
        host, port, scheme = parts.hostname, parts.port, parts.scheme.lower()
    except ValueError:  # a port that is not a number, or brackets around something that is not an address
        host, port, scheme = None, None, ""
    if scheme.startswith("socks"):
        raise ConfigurationError(
            f"{variable} names a SOCKS proxy, which bulkstow cannot use: give an HTTP proxy (http://HOST:PORT), "
            "or unset it"
        )
    if scheme not in DEFAULT_PORTS or not host or re.search(r"[\s\x00-\x1f\x7f]", value):
        # The value is not repeated: it may contain a password, and what cannot be parsed cannot be masked.
        raise ConfigurationError(f"{variable} in the environment: expected http://HOST:PORT or HOST:PORT")
    port = port or DEFAULT_PORTS[scheme]
    bracketed = f"[{host}]" if ":" in host else host
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return Proxy(f"{scheme}://{login}{bracketed}:{port}", f"{bracketed}:{port}", variable)


def _is_exempt(url: str, environment: Mapping[str, str]) -> bool:
    """Return whether no_proxy matches the host of a URL."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", listed) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of no_proxy (`*`, a name and all below it, an address, a network) matches a host."""
    if entry == "*":
        return True
    if (network := _network(entry)) is not None:
        address = _address(host)
        return address is not None and address in network
    entry, wanted_port = _without_port(entry)
    if wanted_port not in (None, str(port)):
        return False
    if (listed := _address(entry.strip("[]"))) is not None:
        return listed == _address(host)
    name = entry.removeprefix("*").lstrip(".").rstrip(".").lower()
    return bool(name) and (host == name or (host.endswith(f".{name}") and _address(host) is None))


def _without_port(entry: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"(\[[^]]*\]|[^:]*):([0-9]+)", entry)
    return (match[1], match[2]) if match else (entry, None)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in entry:
        return None
    try:
        return ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
