"""The address of a client, for limits by address."""

import ipaddress

from wshub_core import Request


def client_address(request: Request) -> str:
    """Return the address of the client that sent a request, without the port.

    For IPv6 the result is the /64 network: one customer of a provider usually has a whole /64 and
    can use every address in it.

    All clients of a unix socket have the address ``""``. All clients behind a proxy have the
    proxy's address, unless ``HubConfig.trusted_proxies`` names it.
    """
    host = request.remote_address.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    # A dual-stack socket reports IPv4 clients as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). All of
    # them are in one /64, so the IPv4 address stands for the client.
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
