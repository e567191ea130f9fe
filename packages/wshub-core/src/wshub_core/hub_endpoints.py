"""The methods of a hub that return ASGI applications for plain HTTP."""

from typing import TYPE_CHECKING

from wshub_core.hub_channels import HubChannels

if TYPE_CHECKING:
    from wshub_core.endpoints.event_stream import EventStreamApp


class HubEndpoints(HubChannels):
    """The base of `Hub` with the applications that serve plain HTTP beside the WebSockets."""

    def sse(self) -> "EventStreamApp":
        """Return an ASGI application whose responses are event streams (server-sent events).

        A request names channels, as in ``GET /sse?channel=news``. Each client is a connection of
        this hub, under the same rules as a WebSocket. Mount the application at a path of your own,
        as in ``Mount("/sse", hub.sse())`` of Starlette, or with ``hub.serve(http_app=…)``.
        """
        # A hub without event streams does not load the module.
        from wshub_core.endpoints.event_stream import EventStreamApp

        return EventStreamApp(self._get_running)
