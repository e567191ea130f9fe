"""The contract of the clients: one list of tests for the clients in all languages.

The tests hold the table in docs/reference/client-behaviour.md. There is one module for each section
of that page, and the name of a test begins with the name of its row. A test starts a hub, or a
server whose answers it writes itself. It judges the client by the frames that the server gets, and
by the events that the client reports.

To test a client, derive a class from `ClientContract` and define a fixture ``client``, which gives
a `ClientUnderTest`::

    class TestMyClient(ClientContract):
        @pytest.fixture
        async def client(self) -> AsyncIterator[ClientUnderTest]:
            client = MyClient()
            yield client
            await client.close()
"""

from client_contract.closing import ClosingContract
from client_contract.heartbeat import HeartbeatContract
from client_contract.interface import ClientUnderTest, Event, FailedError
from client_contract.messages import MessageContract
from client_contract.opening import OpeningContract
from client_contract.recovery import RecoveryContract
from client_contract.retries import RetryContract
from client_contract.sending import SendingContract
from client_contract.subscriptions import SubscriptionContract
from client_contract.tokens import TokenContract

__all__ = ["ClientContract", "ClientUnderTest", "Event", "FailedError"]


class ClientContract(
    OpeningContract,
    RetryContract,
    TokenContract,
    HeartbeatContract,
    MessageContract,
    SubscriptionContract,
    RecoveryContract,
    SendingContract,
    ClosingContract,
):
    """All tests that every client passes, in the order of the table."""
