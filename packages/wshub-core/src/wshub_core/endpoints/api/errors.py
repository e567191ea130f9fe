"""The errors of the HTTP API, each with a status and a code for programs."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from wshub_core.connections.answers import REFUSAL_CODES
from wshub_core.endpoints.api.answers import ErrorAnswer, ErrorDetail
from wshub_core.values.errors import (
    ForkedProcessError,
    HistoryUnavailableError,
    HubClosedError,
    HubNotStartedError,
    InvalidCloseError,
    MessageTooLargeError,
    NoPresenceError,
    PresenceUnavailableError,
    PublishDeniedError,
    ReservedTypeError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    WSHubError,
)
from wshub_core.values.http import Response

JSON_TYPE = "application/json"

_CODES: Mapping[type[WSHubError], str] = {
    **REFUSAL_CODES,  # the codes of answers to frames: an error has one name
    ReservedTypeError: "reserved_type",
    HistoryUnavailableError: "history_unavailable",
    InvalidCloseError: "invalid_close",
    HubNotStartedError: "hub_not_running",
    HubClosedError: "hub_not_running",
    ForkedProcessError: "hub_not_running",
}

HUB_ERRORS = tuple(_CODES)
"""The errors of a hub that a request can cause."""

_STATUSES: Mapping[type[WSHubError], HTTPStatus] = {
    MessageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NoPresenceError: HTTPStatus.NOT_FOUND,
    PublishDeniedError: HTTPStatus.FORBIDDEN,
    SubscriptionDeniedError: HTTPStatus.FORBIDDEN,
    SubscriptionLimitError: HTTPStatus.CONFLICT,
    HistoryUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    PresenceUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    HubNotStartedError: HTTPStatus.SERVICE_UNAVAILABLE,
    HubClosedError: HTTPStatus.SERVICE_UNAVAILABLE,
    ForkedProcessError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The statuses of errors other than 400."""


class APIError(Exception):
    """A request that the API refuses.

    Attributes:
        status: The status of the response.
        detail: The code, the text, and the field at fault.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(code=code, message=message, field=field)
        self.headers = headers or {}

    @property
    def response(self) -> Response:
        """The response to the request."""
        body = msgspec.json.encode(ErrorAnswer(error=self.detail))
        return Response(self.status, body, self.headers, JSON_TYPE)


def explain(error: WSHubError) -> APIError:
    """Return the error of the API for an error of the hub, which is one of `HUB_ERRORS`."""
    kind = next(each for each in HUB_ERRORS if isinstance(error, each))
    return APIError(_STATUSES.get(kind, HTTPStatus.BAD_REQUEST), _CODES[kind], str(error))
