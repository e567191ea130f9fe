"""The recognition of envelopes that arrive a second time."""


class DuplicateFilter:
    """Remembers the last envelope id of each source and channel.

    A publisher that loses its connection sends unconfirmed envelopes again. Redis may have passed
    them on already, so hubs have to recognize the second copy.

    One number for each source and channel is enough, because the envelopes of one source on one
    channel arrive in order. The channel is part of the key because the channels of a cluster can
    be on different nodes, which pass messages on independently.

    A number is remembered for a limited time, because a second copy follows soon after the first.
    Without the limit, a forged number that is far ahead would silence its source forever.

    Args:
        seconds: Time for which a number is remembered, in seconds.
        limit: Maximum number of pairs of source and channel. Above it, the pair that has been
            silent longest is forgotten.
    """

    def __init__(self, seconds: float, limit: int = 16_384) -> None:
        self._seconds = seconds
        self._limit = limit
        self._last: dict[tuple[str, bytes], tuple[int, float]] = {}

    def is_new(self, source_id: str, channel: bytes, envelope_id: int | None, now: float) -> bool:
        """Record an envelope, and return whether it is the first copy as far as is known.

        The numbers of one source and channel may have gaps.
        """
        if not source_id or envelope_id is None:
            return True
        key = source_id, channel
        last, until = self._last.get(key, (-1, now))
        if envelope_id <= last and now < until:
            # The entry is left as it is: repeating a forged number must not prolong its effect.
            return False
        # Removing and inserting the key moves it to the end: the first key is the oldest.
        self._last.pop(key, None)
        self._last[key] = envelope_id, now + self._seconds
        if len(self._last) > self._limit:
            del self._last[next(iter(self._last))]
        return True
