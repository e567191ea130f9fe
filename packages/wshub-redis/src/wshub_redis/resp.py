"""Commands in the Redis protocol (RESP)."""


def encode_command(*parts: bytes) -> bytes:
    """Return a command as the protocol's array of bulk strings.

    Args:
        parts: The name of the command and its arguments.
    """
    return b"*%d\r\n%b" % (len(parts), encode_parts(*parts))


def encode_parts(*parts: bytes) -> bytes:
    """Return parts of a command as bulk strings."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
