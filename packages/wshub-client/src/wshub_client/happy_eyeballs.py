"""TCP connections to a host with several addresses, some of which may be dead (RFC 8305)."""

import asyncio
import contextlib
import socket
from itertools import chain, zip_longest
from typing import TypeAlias

Address: TypeAlias = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]

_STAGGER_SECONDS = 0.25
"""The delay between the attempts for two addresses (RFC 8305 section 5)."""


async def connect_tcp(host: str, port: int) -> socket.socket:
    """Connect to the first address of a host that accepts a connection.

    `asyncio.loop.create_connection` can do the same; the one of uvloop has no such option.

    Raises:
        OSError: The host is unknown, or no address accepts the connection.
    """
    return await _connect_first(_alternate(await _resolve(host, port)))


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        # A numeric address is resolved here, without a thread.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def _alternate(addresses: list[Address]) -> list[Address]:
    """Order addresses so that their families alternate, beginning with the family of the first."""
    first = addresses[0][0]
    pairs = zip_longest(
        (each for each in addresses if each[0] == first),
        (each for each in addresses if each[0] != first),
    )
    return [each for each in chain.from_iterable(pairs) if each is not None]


async def _connect_first(addresses: list[Address]) -> socket.socket:
    """Try addresses in order, each 0.25 seconds after the last, or as soon as that has failed."""
    waiting = list(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while True:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.pop(0))))
            timeout = _STAGGER_SECONDS if waiting else None
            done, attempts = await asyncio.wait(
                attempts, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            # Two attempts may succeed in the same step of the loop.
            connected = [each.result() for each in done if each.exception() is None]
            for extra in connected[1:]:
                extra.close()
            if connected:
                return connected[0]
            errors += [error for each in done if isinstance(error := each.exception(), OSError)]
            if not waiting and not attempts:
                raise _join_errors(errors)
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close_late)


async def _connect(address: Address) -> socket.socket:
    family, socket_address = address
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, socket_address)
        with contextlib.suppress(OSError):
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connecting.close()
        raise
    return connecting


def _close_late(attempt: "asyncio.Task[socket.socket]") -> None:
    """Close a socket that was connected in the moment in which its attempt was cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _join_errors(errors: list[OSError]) -> OSError:
    texts = dict.fromkeys(map(str, errors))
    return errors[0] if len(texts) == 1 else OSError("; ".join(texts))
