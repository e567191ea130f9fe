"""Tools for tests of programs that use a hub: clients without sockets, and a manual clock.

::

    async def test_greeting() -> None:
        clock = ManualClock()
        async with Hub(HubConfig(on_connect=greet), clock=clock) as hub:
            client = await connect(hub)
            assert (await client.receive()).data == "hello"

The hub is a real hub; only the network is missing. The hub serves a frame of a client at once,
unless an async callback of the same client still runs.

`BridgeContract` has the tests that every bridge must pass. `HistoryContract` and
`SharedHistoryContract` have the tests that every form of history must pass.
"""

from wshub_core.testing.bridge_contract import BridgeContract
from wshub_core.testing.client import HandshakeRefusedError, MemoryClient, MemoryTransport, connect
from wshub_core.testing.clock import ManualClock, ManualTimer
from wshub_core.testing.history_contract import HistoryContract, SharedHistoryContract
from wshub_core.testing.memory_bridge import MemoryBridge, MemoryExchange
from wshub_core.testing.memory_history import MemoryHistory
from wshub_core.testing.presence_contract import PresenceContract

__all__ = [
    "BridgeContract",
    "HandshakeRefusedError",
    "HistoryContract",
    "ManualClock",
    "ManualTimer",
    "MemoryBridge",
    "MemoryClient",
    "MemoryExchange",
    "MemoryHistory",
    "MemoryTransport",
    "PresenceContract",
    "SharedHistoryContract",
    "connect",
]
