"""The form of history that the contract of histories tests."""

import asyncio
from contextlib import AbstractAsyncContextManager

from wshub_core.hub import Hub
from wshub_core.values.config import HubConfig
from wshub_core.values.history import HistoryLimits

AGE_SECONDS = 1.0
"""Maximum age of the messages of the channels ``aging:*``, in seconds."""

CONFIG = HubConfig(
    history={
        "log:*": HistoryLimits(),
        "ten:*": HistoryLimits(messages=10),
        "light:*": HistoryLimits(bytes=10_000),
        "aging:*": HistoryLimits(seconds=AGE_SECONDS),
    },
    max_message_bytes=4_096,
    publish_authorizer=lambda connection, channel: True,
)
"""The settings of all hubs of the contract."""


class HistoryForm:
    """A form of history: the way to open a hub with it.

    Each test begins without any message in the history.
    """

    def open_hub(self, config: HubConfig) -> AbstractAsyncContextManager[Hub]:
        """Return a hub, which is closed at the end of ``async with``, with its bridge if needed."""
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        """Let messages become older. Override it for a history that goes by a manual clock."""
        await asyncio.sleep(seconds)
