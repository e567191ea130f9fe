"""The client without an event loop, in threads."""

import sys
import threading
from collections.abc import Iterator

import pytest
from threaded_hubs import Served

from wshub_client import (
    BlockingClient,
    ClientClosedError,
    ClientError,
    ConnectionState,
    RefusedError,
)
from wshub_core import AuthResult, Message


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(publish_authorizer=lambda *_: True) as served:
        yield served


def test_a_script_follows_a_channel(served: Served) -> None:
    with BlockingClient(served.url) as client:
        assert client.state.value == 2
        client.subscribe("news", confirm=True)
        for number in range(3):
            served.hub.publish("news", Message(type="event", data=number))
        received = []
        for message in client:
            received.append(message.data)
            if len(received) == 3:
                break
        assert received == [0, 1, 2]
        client.publish("news", "mine")
        assert client.receive().data == "mine"
        client.unsubscribe("news")
        client.send(Message(type="ping"))
        assert client.receive(timeout=5).type == "pong"
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.01)
    assert client.state is ConnectionState.DISCONNECTED
    assert list(client) == []
    with pytest.raises(ClientClosedError):
        client.send(Message(type="ping"))
    client.close()


def test_another_thread_can_close_a_client(served: Served) -> None:
    with BlockingClient(served.url) as client:
        closing = threading.Timer(0.05, client.close)
        closing.start()
        assert list(client) == []
        closing.join(30)


def test_entering_raises_a_refusal() -> None:
    with Served(authenticator=lambda _: AuthResult(False)) as served:
        before = set(threading.enumerate())
        client = BlockingClient(served.url, token="wrong")
        with pytest.raises(RefusedError, match="refused: 401 Unauthorised"), client:
            pass
        assert set(threading.enumerate()) <= before


def test_a_client_that_was_never_entered_can_be_closed() -> None:
    client = BlockingClient("ws://127.0.0.1:1/ws")
    client.close()
    with pytest.raises(ClientClosedError):
        client.receive()


def test_calls_before_entering_raise() -> None:
    client = BlockingClient("ws://127.0.0.1:1/ws")
    for use in (lambda: client.subscribe("a"), lambda: client.receive(timeout=1)):
        with pytest.raises(ClientError, match="inside `with`"):
            use()
    client.close()


def test_many_threads_may_close_a_client_at_once(served: Served) -> None:
    for _ in range(20):
        with BlockingClient(served.url) as client:
            threads = [threading.Thread(target=client.close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()


def test_callbacks_that_call_back_or_want_to_exit_are_contained(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def on_connect() -> None:
        client.subscribe("a")

    def on_message(message: Message) -> None:
        sys.exit(1)

    client = BlockingClient(served.url, on_connect=on_connect, on_message=on_message)
    with client:
        client.send(Message(type="ping"))
        client.publish("chat", "hello")
        client.publish("chat", "again")
    assert "a callback must not call the blocking client" in caplog.text
    assert "a callback cannot end the program" in caplog.text
