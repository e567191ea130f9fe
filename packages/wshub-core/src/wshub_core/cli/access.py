"""The access to ``wshub serve``: its authenticators and its channel authorizer, from wshub-auth."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

from wshub_core.cli.settings import ServeSettings
from wshub_core.values.auth import Authenticator
from wshub_core.values.config import ChannelAuthorizer
from wshub_core.values.errors import InvalidConfigError, WSHubError

_SECRET_ALGORITHMS = ("HS256",)

_KEY_ALGORITHMS = ("RS256", "ES256", "EdDSA")


class Access(NamedTuple):
    """The rules for the clients of a site.

    Attributes:
        api: Authenticates the clients of the HTTP API; None without the API.
        clients: Authenticates the clients of the hub; None if all may connect.
        channels: Authorizes subscriptions; None if all are allowed.
    """

    api: Authenticator | None
    clients: Authenticator | None
    channels: ChannelAuthorizer | None


def read_access(settings: ServeSettings) -> Access:
    """Return the rules that the settings describe.

    Raises:
        InvalidConfigError: A line of a file, a secret, a URL or a pattern is invalid.
        WSHubError: A file cannot be read, or a package is missing.
    """
    api = None if settings.api_keys is None else _read_keys("api_keys", settings.api_keys)
    return Access(api, _make_authenticator(settings), _make_authorizer(settings))


def _make_authenticator(settings: ServeSettings) -> Authenticator | None:
    found: list[Authenticator] = []
    if settings.client_keys is not None:
        found.append(_read_keys("client_keys", settings.client_keys))
    if settings.jwt_secret is not None:
        with _explained("jwt_secret", "wshub-auth[jwt]"):
            found.append(_make_jwt_auth(settings, settings.jwt_secret, _SECRET_ALGORITHMS))
    if settings.jwt_keys_url is not None:
        with _explained("jwt_keys_url", "wshub-auth[jwt]"):
            keys = import_module("wshub_auth.jwt").JWKS(settings.jwt_keys_url)
            found.append(_make_jwt_auth(settings, keys, _KEY_ALGORITHMS))
    if len(found) < 2:
        return found[0] if found else None
    authenticator: Authenticator = import_module("wshub_auth").FirstOf(*found)
    return authenticator


def _make_jwt_auth(settings: ServeSettings, key: Any, algorithms: tuple[str, ...]) -> Authenticator:
    authenticator: Authenticator = import_module("wshub_auth.jwt").JWTAuth(
        key, algorithms=algorithms, audience=settings.jwt_audience, issuer=settings.jwt_issuer
    )
    return authenticator


def _make_authorizer(settings: ServeSettings) -> ChannelAuthorizer | None:
    if settings.allowed_channels is None:
        return None
    with _explained("allowed_channels", "wshub-auth"):
        auth = import_module("wshub_auth")
        authorizer: ChannelAuthorizer = auth.any_of(
            auth.allow(*settings.allowed_channels), auth.allow_claimed("channels")
        )
        return authorizer


def _read_keys(setting: str, path: str) -> Authenticator:
    """Return an authenticator for the keys in a file."""
    with _explained(setting, "wshub-auth"):
        auth = import_module("wshub_auth")
        sources = (auth.BearerHeader(), auth.BearerSubprotocol())
        try:
            authenticator: Authenticator = auth.APIKeyAuthenticator.from_file(path, sources=sources)
        except (OSError, ValueError) as exc:  # no text, or a path with a null character
            raise WSHubError(f"the file of {setting} cannot be read: {exc}") from exc
        return authenticator


@contextmanager
def _explained(setting: str, package: str) -> Iterator[None]:
    """Turn exceptions into errors that name the setting."""
    try:
        yield
    except ImportError as exc:
        raise WSHubError(
            f"{setting} needs the package {package}: install it beside wshub-core"
        ) from exc
    except InvalidConfigError as exc:
        raise InvalidConfigError(f"{setting}: {exc}") from exc
