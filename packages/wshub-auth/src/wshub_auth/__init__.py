"""Authenticators and channel authorizers for a wshub hub.

Pass an authenticator as ``HubConfig.authenticator`` and a channel authorizer as
``HubConfig.channel_authorizer``. The authenticator for JSON Web Tokens is in `wshub_auth.jwt`,
which needs the extra ``wshub-auth[jwt]``.
"""

from wshub_auth.addresses import client_address
from wshub_auth.api_keys import APIKeyAuthenticator, APIKeyUser, hash_api_key
from wshub_auth.channels import all_of, allow, allow_claimed, any_of
from wshub_auth.credentials import (
    BearerHeader,
    BearerSubprotocol,
    Cookie,
    CredentialSource,
    QueryParameter,
)
from wshub_auth.errors import (
    InvalidAPIKeyError,
    InvalidTicketError,
    InvalidTokenError,
    KeysUnavailableError,
    MalformedAuthHeaderError,
    MalformedCredentialError,
    MalformedTokenError,
    MissingAuthHeaderError,
    MissingCredentialError,
    MissingTokenError,
)
from wshub_auth.first_of import FirstOf
from wshub_auth.patterns import ChannelPattern
from wshub_auth.rate_limit import RateLimit
from wshub_auth.redaction import TokenRedactor
from wshub_auth.ticket_stores import MemoryTicketStore, TicketStore
from wshub_auth.tickets import TicketAuth
from wshub_auth.tokens import (
    BearerTokenAuth,
    CookieAuth,
    QueryTokenAuth,
    SubprotocolTokenAuth,
    TokenAuth,
    Validator,
)

__all__ = [
    "APIKeyAuthenticator",
    "APIKeyUser",
    "BearerHeader",
    "BearerSubprotocol",
    "BearerTokenAuth",
    "ChannelPattern",
    "Cookie",
    "CookieAuth",
    "CredentialSource",
    "FirstOf",
    "InvalidAPIKeyError",
    "InvalidTicketError",
    "InvalidTokenError",
    "KeysUnavailableError",
    "MalformedAuthHeaderError",
    "MalformedCredentialError",
    "MalformedTokenError",
    "MemoryTicketStore",
    "MissingAuthHeaderError",
    "MissingCredentialError",
    "MissingTokenError",
    "QueryParameter",
    "QueryTokenAuth",
    "RateLimit",
    "SubprotocolTokenAuth",
    "TicketAuth",
    "TicketStore",
    "TokenAuth",
    "TokenRedactor",
    "Validator",
    "all_of",
    "allow",
    "allow_claimed",
    "any_of",
    "client_address",
    "hash_api_key",
]
