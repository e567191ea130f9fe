"""A FastAPI application whose users receive their own news, authenticated by their login session.

It needs wshub-core, wshub-auth, fastapi, uvicorn, itsdangerous and python-multipart. Run it with
``uvicorn fastapi_session:app``, open http://localhost:8000/ and log in with any name.
"""

import base64
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from itsdangerous import BadSignature, TimestampSigner
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import WebSocketRoute

from wshub_auth import CookieAuth, FirstOf, TicketAuth, TokenRedactor, allow
from wshub_core import AuthError, AuthResult, Hub, HubConfig, Message

SECRET = os.environ.get("SESSION_SECRET", "change me")
SESSION_SECONDS = 3_600


def read_session(cookie: str) -> AuthResult:
    """Authenticate the user of a session cookie by the signature of SessionMiddleware."""
    try:
        content, signed_at = TimestampSigner(SECRET).unsign(
            cookie, max_age=SESSION_SECONDS, return_timestamp=True
        )
    except BadSignature:
        return AuthResult(False, error=AuthError("no valid session"))
    user = json.loads(base64.b64decode(content)).get("user", "")
    return AuthResult(True, user, expires_at=signed_at.timestamp() + SESSION_SECONDS)


# uvicorn logs the address of each request. A ticket is part of the address, a cookie is not.
for name in ("uvicorn.access", "uvicorn.error"):
    logging.getLogger(name).addFilter(TokenRedactor())

tickets = TicketAuth()
hub = Hub(
    HubConfig(
        authenticator=FirstOf(CookieAuth("session", read_session), tickets),
        channel_authorizer=allow("public:**", "user:{user_id}"),
    )
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=SECRET, max_age=SESSION_SECONDS)
app.router.routes.append(WebSocketRoute("/ws", hub.asgi()))


def user_of(request: Request) -> str:
    user: str = request.session.get("user", "")
    if not user:
        raise HTTPException(401, "log in first")
    return user


@app.post("/login")
async def login(request: Request, user: Annotated[str, Form()]) -> RedirectResponse:
    request.session["user"] = user  # a real application checks a password first
    return RedirectResponse("/", status_code=303)


@app.post("/news")
async def publish_news(request: Request, text: Annotated[str, Form()]) -> None:
    hub.publish(f"user:{user_of(request)}", Message(type="event", data=text))


@app.post("/ticket")
async def issue_ticket(request: Request) -> str:
    """Return a ticket for a hub on another host, which does not receive this cookie."""
    return await tickets.issue(user_of(request))


@app.get("/")
async def page(request: Request) -> HTMLResponse:
    user = request.session.get("user")
    return HTMLResponse(PAGE.replace("USER", json.dumps(user)) if user else LOGIN)


LOGIN = "<form method=post action=/login><input name=user placeholder=name><button>Log in</button>"

PAGE = """<!doctype html>
<p id=state>connecting</p>
<form id=form><input name=text placeholder=news><button>Publish</button></form>
<ul id=news></ul>
<script type=module>
  const user = USER;
  const address = new URL("/ws", location.href.replace(/^http/, "ws"));
  const socket = new WebSocket(address);  // the browser sends the cookie by itself
  socket.onopen = () => {
    socket.send(JSON.stringify({type: "subscribe", channel: `user:${user}`}));
    state.textContent = `connected as ${user}`;
  };
  socket.onclose = (event) => state.textContent = `closed with ${event.code}`;
  socket.onmessage = (event) => {
    const item = document.createElement("li");
    item.textContent = JSON.parse(event.data).data;
    news.append(item);
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    fetch("/news", {method: "POST", body: new FormData(form)});
  };
</script>
"""
