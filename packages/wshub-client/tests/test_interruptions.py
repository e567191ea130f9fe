"""The blocking client with signal handlers that raise or close at any moment."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from client_servers import accept_upgrade
from threaded_hubs import Served

from wshub_client import BlockingClient, ClientClosedError, ClientError, blocking
from wshub_core import Message


class SoftLimitError(Exception):
    """As task queues raise in a job that takes too long."""


@contextmanager
def handling(handler: Callable[[], object]) -> Iterator[None]:
    """Call a function whenever SIGALRM comes."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    # pytest-timeout uses the same timer.
    limit, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, limit)


def interrupt() -> None:
    raise SoftLimitError


@contextmanager
def running(script: str, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program, and wait until it has printed a line; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", script, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(publish_authorizer=lambda *_: True) as served:
        yield served


def test_a_message_that_comes_after_the_interruption_is_the_next(served: Served) -> None:
    with BlockingClient(served.url) as client, handling(interrupt):
        for timeout in (None, 5.0):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(SoftLimitError):
                client.receive(timeout)
            served.hub.send_event("n", 1)
            served.hub.send_event("n", 2)
            got = [client.receive(timeout=5).data["data"] for _ in range(2)]
            assert got == [1, 2]


INTERRUPTED = """
import signal, sys
from wshub_client import BlockingClient

class SoftLimitError(Exception): pass

is_receiving = False
interval = 0.0037

def interrupt(*_):
    # The interval grows, because a call may take longer on a busy machine.
    global interval
    interval *= 1.01
    signal.setitimer(signal.ITIMER_REAL, interval)
    if is_receiving:
        raise SoftLimitError

got, interruptions, message = [], 0, None
signal.signal(signal.SIGALRM, interrupt)
with BlockingClient(sys.argv[1], inbox_size=5_000) as client:
    print(flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while len(got) < 3_000:
        try:
            is_receiving = True
            message = client.receive(timeout=5)
            is_receiving = False
        except SoftLimitError:
            is_receiving = False
            interruptions += 1
        # It may have been interrupted just after it was received.
        if message is not None and got[-1:] != [message.data]:
            got.append(message.data)
    signal.setitimer(signal.ITIMER_REAL, 0)
print(interruptions > 10, got == list(range(3_000)))
"""


def test_interruptions_at_any_moment_lose_no_message_and_keep_the_order(served: Served) -> None:
    # In a process of its own, because exceptions also hit what is no part of the client.
    with running(INTERRUPTED, served.url) as process:
        for number in range(3_000):
            served.hub.broadcast(Message(type="event", data=number))
        output, _ = process.communicate(timeout=60)
    assert output == b"True True\n"


def test_a_second_interruption_during_the_first_loses_no_message(served: Served) -> None:
    calls = 0

    def trace(frame: FrameType, event: str, arg: object) -> None:
        # Python calls signal handlers at the beginning of a function, too.
        nonlocal calls
        calls -= frame.f_code.co_filename == blocking.__file__
        if calls == 0:
            raise SoftLimitError

    def interrupt_twice() -> None:
        served.hub.send_event("n", number)
        time.sleep(0.05)  # the client's thread receives the message
        sys.settrace(trace)
        raise SoftLimitError

    tracer = sys.gettrace()
    with BlockingClient(served.url) as client:
        for number in range(1, 10):
            calls = number
            with handling(interrupt_twice):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                with pytest.raises(SoftLimitError):
                    client.receive()
                sys.settrace(tracer)
            assert client.receive(timeout=5).data["data"] == number


def test_interrupted_iterations_lose_no_message(served: Served) -> None:
    with BlockingClient(served.url) as client, handling(interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(SoftLimitError):
            for _ in client:
                pass
        served.hub.send_event("n", 1)
        assert next(iter(client)).data["data"] == 1


def test_other_calls_can_be_interrupted_and_the_client_goes_on() -> None:
    may_answer = threading.Event()

    async def decide(*_: object) -> bool:
        return await asyncio.to_thread(may_answer.wait, 10)

    with (
        Served(publish_authorizer=decide, channel_authorizer=decide) as served,
        BlockingClient(served.url) as client,
        handling(interrupt),
    ):
        calls: list[Callable[[], object]] = [
            lambda: client.subscribe("a", confirm=True),
            lambda: client.publish("a", 1),
        ]
        for call in calls:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(SoftLimitError):
                call()
        may_answer.set()
        client.subscribe("a", confirm=True)
        assert client.receive(timeout=5).data == 1  # it was sent before the interruption
        client.publish("a", 2)
        assert client.receive(timeout=5).data == 2


def test_a_signal_handler_may_close(served: Served) -> None:
    calls: list[Callable[[BlockingClient], object]] = [
        lambda client: client.receive(),
        lambda client: client.receive(timeout=30),
        lambda client: next(iter(client)),
    ]
    for call in calls:
        client = BlockingClient(served.url)
        with client, handling(client.close):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises((ClientClosedError, StopIteration)):
                call(client)
    for number in range(20):
        client = BlockingClient(served.url)
        with client, handling(client.close):
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.0001)
            client.close()


def ping_for_ever(client: BlockingClient) -> None:
    while True:
        client.send(Message(type="ping"))
        client.receive(timeout=5)


def test_a_signal_handler_may_close_at_any_moment(served: Served) -> None:
    for number in range(60):
        client = BlockingClient(served.url)
        with client, handling(client.close):
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + number * 0.0001)
            with pytest.raises(ClientClosedError):
                ping_for_ever(client)
        assert client.state.value == 0


@contextmanager
def rude_server() -> Iterator[str]:
    """Serve one client that becomes connected, and hears nothing more: no answer to a close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        end = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(accept_upgrade(connection.recv(65_536)))
                end.wait()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
        finally:
            end.set()


def test_waiting_calls_do_not_wait_for_the_closing_handshake() -> None:
    ended: list[str] = []
    with rude_server() as url, BlockingClient(url, close_timeout=2.0) as client:

        def wait(timeout: float | None) -> None:
            with pytest.raises(ClientClosedError):
                client.receive(timeout)
            ended.append("receive")

        def close() -> None:
            client.close()
            ended.append("close")

        threads = [
            threading.Thread(target=wait, args=[each], daemon=True) for each in (None, 1.0, 30.0)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        threads.append(threading.Thread(target=close))
        threads[-1].start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert ended == ["receive", "receive", "receive", "close"]


def test_calls_that_race_with_closing_never_hang(served: Served) -> None:
    for number in range(60):
        client = BlockingClient(served.url)
        with client:
            outcomes: list[str] = []

            def call(client: BlockingClient = client, outcomes: list[str] = outcomes) -> None:
                while True:
                    try:
                        client.receive(timeout=0.001)
                    except TimeoutError:
                        pass
                    except ClientClosedError:
                        outcomes.append("closed")
                        return

            threads = [threading.Thread(target=call) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(number * 0.0002)
            closers = [threading.Thread(target=client.close) for _ in range(2)]
            for thread in closers:
                thread.start()
            for thread in (*threads, *closers):
                thread.join(30)
                assert not thread.is_alive()
            assert outcomes == ["closed"] * 3


# `threading` itself may leave a thread that fails when its start is interrupted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_entering_can_be_interrupted_and_leaves_no_thread() -> None:
    def enter(client: BlockingClient, delay: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay)
        with client:
            time.sleep(30)

    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent, handling(interrupt):
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/ws"
        for number in range(20):
            client = BlockingClient(url, close_timeout=0.1)
            # `Thread.start` turns an interruption at some moments into a KeyError.
            with pytest.raises((SoftLimitError, KeyError)):
                enter(client, 0.0003 + number * 0.0005)
            with pytest.raises(ClientError):  # it is closed, or was never entered
                client.receive()
    deadline = time.monotonic() + 30
    while any(thread.is_alive() for thread in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.01)


SCRIPT = """
import sys
from wshub_client import BlockingClient
client = BlockingClient(sys.argv[1]).__enter__()
client.subscribe("a", confirm=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "del client", "sys.exit(0)", "client.close()"])
def test_a_program_ends_although_its_client_was_not_closed(served: Served, end: str) -> None:
    script = SCRIPT.format(end=end)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, served.url],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_a_keyboard_interrupt_ends_a_program_that_waits(served: Served) -> None:
    script = (
        "import sys; from wshub_client import BlockingClient\n"
        "with BlockingClient(sys.argv[1]) as client: print(flush=True); client.receive()"
    )
    with running(script, served.url) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in errors
