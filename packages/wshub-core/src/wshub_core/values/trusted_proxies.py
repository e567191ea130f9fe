"""The address of a client behind proxies, which add it to the header ``X-Forwarded-For``."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_UNIX = "unix"

_PORT_DIGITS = 5


class TrustedProxies:
    """Finds the address of a client.

    Each proxy adds the address of its peer at the end of the header. So the last address that is
    not that of a trusted proxy is the client's, and a client may have written all others itself.

    Args:
        networks: The networks of the proxies, such as ``10.0.0.0/8`` or ``127.0.0.1``; ``unix``
            stands for the peers of unix sockets.

    Raises:
        ValueError: A network is invalid.
    """

    def __init__(self, networks: Collection[str]) -> None:
        self._trusts_unix = _UNIX in networks
        self._networks = [ip_network(each) for each in networks if each != _UNIX]

    def find_client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client of a request.

        Args:
            peer: ``host:port`` of the peer; empty for a unix socket.
            forwarded: The values of the header ``X-Forwarded-For``.

        Returns:
            ``host:port``; the port is 0 if no proxy has added it. Without the header, or from a
            peer that is not trusted, the peer.
        """
        if not forwarded or not (self._is_trusted(_parse(peer)) if peer else self._trusts_unix):
            return peer
        client = peer
        for entry in reversed(",".join(forwarded).split(",")):
            found = _parse(entry.strip())
            if found is None:
                break  # no proxy adds it, so the rest is not to be trusted either
            client = _format(*found)
            if not self._is_trusted(found):
                break
        return client

    def _is_trusted(self, address: tuple[IPv4Address | IPv6Address, str] | None) -> bool:
        return address is not None and any(address[0] in each for each in self._networks)


def _parse(text: str) -> tuple[IPv4Address | IPv6Address, str] | None:
    """Return an address and its port, or None."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ip_address(host)
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    is_port = port.isascii() and port.isdecimal() and len(port) <= _PORT_DIGITS
    return mapped or address, port if is_port else "0"


def _format(address: IPv4Address | IPv6Address, port: str) -> str:
    return f"{address}:{port}" if isinstance(address, IPv4Address) else f"[{address}]:{port}"
