"""The contract of histories: tests that every form of history must pass."""

from wshub_core.testing.history_reading_tests import HistoryReadingTests
from wshub_core.testing.history_recovery_tests import HistoryRecoveryTests
from wshub_core.testing.history_sharing_tests import HistorySharingTests


class HistoryContract(HistoryRecoveryTests, HistoryReadingTests):
    """Tests of a history of one hub, for pytest with ``asyncio_mode = "auto"``.

    Derive a class whose name begins with ``Test``, and define ``open_hub``, which returns a hub for
    ``async with``. Every test must begin without any message in the history.

    If several hubs share their history, derive the class from `SharedHistoryContract` instead.
    """


class SharedHistoryContract(HistoryContract, HistorySharingTests):
    """Tests of a history that several hubs share, such as the history of a bridge.

    ::

        class TestMyHistory(SharedHistoryContract):
            @asynccontextmanager
            async def open_hub(self, config: HubConfig) -> AsyncIterator[Hub]:
                async with Hub(config) as hub, MyBridge(hub, "nats://localhost"):
                    yield hub

    All hubs that one test opens must share the history.
    """
