"""The agenda: the times at which channels need an update."""

import heapq


class Agenda:
    """At most one time for each channel. Time is an argument."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        # An entry whose time differs from that in `_times` is out of date.
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, channel: str) -> bool:
        return channel in self._times

    def add(self, channel: str, time: float) -> None:
        """Set the time of a channel, unless the channel has an earlier one."""
        if time < self._times.get(channel, float("inf")):
            self._times[channel] = time
            heapq.heappush(self._heap, (time, channel))

    def discard(self, channel: str) -> None:
        """Remove a channel, if it is present."""
        self._times.pop(channel, None)

    @property
    def next(self) -> float | None:
        """The earliest time; None without channels."""
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[str]:
        """Remove and return the channels whose time has come, in the order of their times."""
        channels = []
        while (time := self.next) is not None and time <= now:
            channel = heapq.heappop(self._heap)[1]
            del self._times[channel]
            channels.append(channel)
        return channels
