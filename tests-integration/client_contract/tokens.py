"""The token of a client."""

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import holds, names, wait_event
from client_contract.servers import run_hub, take_tokens


class TokenContract:
    """The token of a client."""

    async def test_token_function_is_called_at_every_dial(self, client: ClientUnderTest) -> None:
        presented: list[str] = []

        async with run_hub(authenticator=take_tokens(presented)) as running:
            await client.start(running.url, tokens=["a/b+c=", None, "third"], **QUICK)
            await wait_event(client, "connect")
            await running.drop()
            await wait_event(client, "reconnect")
            assert presented == ["a/b+c=", "third"]
            events = await client.events()
            assert names(events) == ["connect", "error", "disconnect", "error", "reconnect"]
            assert events[-1]["attempts"] == 2

    async def test_token_text_is_sent_with_every_dial(self, client: ClientUnderTest) -> None:
        presented: list[str] = []

        async with run_hub(authenticator=take_tokens(presented)) as running:
            await client.start(running.url, token="secret-1", **QUICK)
            await wait_event(client, "connect")
            await running.drop()
            await wait_event(client, "reconnect")
            assert presented == ["secret-1", "secret-1"]

    async def test_token_that_expires_is_replaced_at_the_next_dial(
        self, client: ClientUnderTest
    ) -> None:
        presented: list[str] = []
        ends = {"short": 1.0}

        async with run_hub(authenticator=take_tokens(presented, ends)) as running:
            await client.start(running.url, tokens=["short", "long"], **QUICK)
            await client.subscribe("a")
            await wait_event(client, "reconnect")
            events = await client.events()
            assert names(events) == ["connect", "error", "disconnect", "reconnect"]
            assert holds(events[1], name="LostError", code=3000)
            assert presented == ["short", "long"]
            assert running.hub.channels == ("a",)
