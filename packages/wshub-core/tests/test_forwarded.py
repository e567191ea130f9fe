"""Messages of other hubs: validated, normalized and delivered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Served

from wshub_core import (
    BROADCAST,
    Hub,
    HubConfig,
    InvalidChannelError,
    InvalidProcessIDError,
    MessageDecodeError,
    MessageTooLargeError,
    MessageType,
)
from wshub_core.protocol.forwarded import normalize_forwarded
from wshub_core.testing import MemoryBridge, MemoryExchange, connect


async def test_messages_of_other_hubs_are_validated() -> None:
    async with Hub(HubConfig(max_message_bytes=200)) as hub:
        client = await connect(hub)
        client.subscribe("news")
        await client.sync()
        for channel, payload, error in (
            ("news", b"", MessageDecodeError),
            ("news", b"null", MessageDecodeError),
            ("news", b"{}", MessageDecodeError),
            ("news", b'{"type":""}', MessageDecodeError),
            ("news", b'{"type":5}', MessageDecodeError),
            ("news", b'{"type":"event","data":NaN}', MessageDecodeError),
            ("news", b'{"type":"event","data":"\xff"}', MessageDecodeError),
            ("news", b'{"type":"event","timestamp":"2026-11-23T04:14:16"}', MessageDecodeError),
            ("news", b'{"type":"event","channel":5}', MessageDecodeError),
            ("news", b"[" * 100_000, MessageDecodeError),
            ("news", b'{"type":"event","processId":"a b"}', InvalidProcessIDError),
            ("process:a:b", b'{"type":"event"}', InvalidProcessIDError),
            ("no spaces", b'{"type":"event"}', InvalidChannelError),
            ("", b'{"type":"event","channel":"no spaces"}', InvalidChannelError),
            ("", b'{"type":"event","channel":"process:a:b"}', InvalidProcessIDError),
            ("news", b'{"type":"event","data":"%b"}' % (b"x" * 150), MessageTooLargeError),
        ):
            with pytest.raises(error):
                hub.bridge_port.deliver(channel, payload)
        hub.bridge_port.deliver("news", b'{"type":"event","data":"end"}')
        assert (await client.receive()).data == "end"
        assert hub.stats().messages == 1


STAMP = '"timestamp":"2026-11-23T04:14:16.618311291+01:00"'


@pytest.mark.parametrize(
    ("channel", "payload", "expected"),
    [
        # Unchanged, to the byte.
        ("news", f'{{"type":"x","channel":"news","data":1e21,{STAMP},"more":1}}', None),
        ("", f'{{"type":"x","data":9007199254740993,{STAMP}}}', None),
        ("", f'{{"type":"x","channel":"news",{STAMP}}}', None),
        ("", f'{{"type":"error","data":"text",{STAMP}}}', None),
        ("", f'{{"type":"x","data":1,{STAMP},"overwrites":true}}', None),
        # Names of fields inside the data have no meaning.
        (
            "",
            f'{{"type":"x","data":{{"channel":"x","processId":null,"id":1,"code":"c"}},{STAMP}}}',
            None,
        ),
        ("news", f'{{"type":"x","channel":"news","data":["channel","processId"],{STAMP}}}', None),
        # As hubs of go-ws send them.
        ("news", f'{{"type":"x",{STAMP}}}', f'{{"type":"x",{STAMP},"channel":"news"}}'),
        (
            "news",
            f'{{"type":"x","channel":"other","processId":null,{STAMP}}}',
            f'{{"type":"x","channel":"news",{STAMP}}}',
        ),
        # Null fields are left out, including unknown fields.
        ("", f'{{"type":"x","data":null,"more":null,{STAMP}}}', f'{{"type":"x",{STAMP}}}'),
        ("", f'{{"type":"x","id":null,"code":null,{STAMP}}}', f'{{"type":"x",{STAMP}}}'),
        ("", f'{{"type":"error","id":null,{STAMP}}}', f'{{"type":"error",{STAMP}}}'),
        # Clients take a message with an id for an answer, also if the name is escaped.
        ("", f'{{"type":"x","id":7,"code":"c",{STAMP}}}', f'{{"type":"x",{STAMP}}}'),
        ("", f'{{"type":"x","i\\u0064":7,{STAMP}}}', f'{{"type":"x",{STAMP}}}'),
        (
            "news",
            f'{{"type":"x","ch\\u0061nnel":"other",{STAMP}}}',
            f'{{"type":"x","channel":"news",{STAMP}}}',
        ),
        # Of two fields with the same name, some clients take the first and some the last.
        (
            "news",
            f'{{"type":"x","channel":"a","channel":"b","type":"y",{STAMP}}}',
            f'{{"type":"y","channel":"news",{STAMP}}}',
        ),
        # A wrong value of this field does not make the message invalid.
        *(
            ("", f'{{"type":"x","overwrites":{wrong},{STAMP}}}', f'{{"type":"x",{STAMP}}}')
            for wrong in ("false", "null", "1", '"true"', "[true]")
        ),
        # Clients of go-ws parse each line as a message.
        (
            "",
            f'{{"type":"x",\n"data":[ 1.0,\n2],{STAMP}}}',
            f'{{"type":"x","data":[1.0,2],{STAMP}}}',
        ),
        # They also require the strict form of timestamps.
        (
            "",
            '{"type":"x","timestamp":"2026-11-23 04:14:16.618311291z"}',
            '{"type":"x","timestamp":"2026-11-23T04:14:16.618311Z"}',
        ),
    ],
)
async def test_messages_of_other_hubs_are_delivered_unchanged_or_normalized(
    channel: str, payload: str, expected: str | None
) -> None:
    now: Any = None  # not used: the message has a timestamp
    assert normalize_forwarded(payload.encode(), channel, now).decode() == (expected or payload)


@pytest.mark.parametrize("name", sorted(MessageType))
@pytest.mark.parametrize("fields", ["", ',"id":1', ',"code":"denied"', ',"id":1,"code":"denied"'])
async def test_requests_and_answers_of_other_hubs_reach_no_client(
    name: MessageType, fields: str
) -> None:
    public = {
        MessageType.EVENT,
        MessageType.HISTORY_CLEARED,
        MessageType.JOIN,
        MessageType.LEAVE,
        # The answer has an `id`, which is removed here. Applications may use this type, too.
        MessageType.PRESENCE,
        MessageType.PROCESS_OUTPUT,
        MessageType.PROCESS_STATUS,
    }
    is_passed_on = name in public or (name == MessageType.ERROR and not fields)
    async with Hub() as hub:
        client = await connect(hub)
        payload = f'{{"type":"{name}","data":1{fields}}}'.encode()
        if is_passed_on:
            hub.bridge_port.deliver("", payload)
            assert (await client.receive()).type == name
        else:
            with pytest.raises(MessageDecodeError, match="between one client and its hub"):
                hub.bridge_port.deliver("", payload)
            # The same for a type that occurs twice, and for an escaped name of the field.
            for disguised in (
                f'{{"type":"event","type":"{name}"{fields}}}',
                f'{{"type":"event","typ\\u0065":"{name}"{fields}}}',
            ):
                with pytest.raises(MessageDecodeError):
                    hub.bridge_port.deliver("", disguised.encode())
        await client.sync()
        assert not client.messages


async def test_a_publish_listener_does_not_change_which_messages_are_delivered(
    served: Served,
) -> None:
    client = await served.connect()
    await client.subscribe("a")
    served.hub.add_publish_listener(lambda channel, message: None)
    served.hub.bridge_port.deliver(
        "a", b'{"type":"x","data":1e999,"timestamp":"2026-11-25T00:00:00Z"}'
    )
    assert (await client.receive())["type"] == "x"


@given(
    st.dictionaries(
        st.sampled_from(["channel", "processId", "id", "code", "type", "overwrites", "x"]),
        st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
    ),
    st.sampled_from(["", "news"]),
)
def test_any_data_is_delivered_with_all_its_digits(data: Any, channel: str) -> None:
    now: Any = None
    message = {"type": "x", "data": data, "timestamp": "2026-11-23T04:14:16.618311291Z"}
    expected = message | ({"channel": channel} if channel else {})
    settled = normalize_forwarded(json.dumps(message).encode(), channel, now)
    assert json.loads(settled) == expected


@pytest.mark.parametrize("stamp", ["", ',"timestamp":null', ',"timestamp":"0001-01-01T00:00:00Z"'])
async def test_a_message_without_a_timestamp_is_stamped(stamp: str) -> None:
    async with Hub() as hub:
        client = await connect(hub)
        hub.bridge_port.deliver("", b'{"type":"event","data":"x"%b}' % stamp.encode())
        message = await client.receive()
        assert message.timestamp is not None
        assert message.timestamp.year > 2000
        assert message.data == "x"


async def test_a_program_without_a_bridge_delivers_to_the_clients_of_its_hub() -> None:
    async with Hub() as hub, Hub() as other:
        exchange = MemoryExchange()
        async with MemoryBridge(hub, exchange), MemoryBridge(other, exchange):
            here, there = await connect(hub), await connect(other)
            hub.deliver(BROADCAST, b'{"type":"event","data":1}')
            assert (await here.receive()).data == 1
            await there.sync()
            assert not there.messages
