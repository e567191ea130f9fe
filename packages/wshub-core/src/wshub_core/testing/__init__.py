"""For tests of programs that use a hub: clients without sockets, and time without waiting.

::

    async def test_greeting() -> None:
        clock = ManualClock()
        async with Hub(HubConfig(on_connect=greet), clock=clock) as hub:
            client = await connect(hub)
            assert (await client.receive()).data == "hello"

The hub is a real one; only the network is left out. What a client sends is served at once, as far
as no async callback takes its time.

Who writes a bridge has it pass `BridgeContract`.
"""

from wshub_core.testing.bridge_contract import BridgeContract
from wshub_core.testing.client import HandshakeRefusedError, MemoryClient, MemoryTransport, connect
from wshub_core.testing.clock import ManualClock, ManualTimer
from wshub_core.testing.memory_bridge import MemoryBridge, MemoryExchange

__all__ = [
    "BridgeContract",
    "HandshakeRefusedError",
    "ManualClock",
    "ManualTimer",
    "MemoryBridge",
    "MemoryClient",
    "MemoryExchange",
    "MemoryTransport",
    "connect",
]
