"""Rejects requests that another web site sends to Dagster's page through a user's browser.

Dagster has no authentication and executes every request to its GraphQL endpoint, including mutations sent by GET. Any
site that is open in a browser on this machine can send requests to a page on 127.0.0.1: with a form or an image
(cross-site request forgery), a WebSocket, or a host name that it points to 127.0.0.1 (DNS rebinding). All of these can
be recognised by their headers.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def rejection(kind: str, method: str, path: str, headers: Mapping[str, str], page: str) -> str | None:
    """Return why a request is rejected, or None if it is allowed.

    Args:
        kind: `http` or `websocket`.
        method: `GET`, `POST`, …; ignored for a WebSocket.
        path: the URL's path, without the query string.
        headers: headers by lower-case name.
        page: the page's public URL, such as `https://personas.example.org`.
    """
    public = urlsplit(page)
    host = urlsplit(f"//{headers.get('host', '')}")
    if host.hostname not in (*LOOPBACK, public.hostname):
        return (
            f"Host: found {host.netloc!r}; expected {', '.join(LOOPBACK)} or the page's public host. "
            "If users open the page under that name, set PERSONA_ASSETS_PAGE=https://that-name"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in (host.netloc, public.netloc):
        return f"Origin: found {origin!r}; expected {host.netloc!r}; cross-site requests are rejected"
    if kind == "http" and path.endswith("/graphql"):
        # Other sites cannot send JSON without a CORS preflight; a GET for text/html only returns the query editor.
        if method == "GET" and "text/html" not in headers.get("accept", ""):
            return "Method: found GET; expected GraphQL queries by POST"
        if method == "POST" and not headers.get("content-type", "").startswith("application/json"):
            return f"Content-Type: found {headers.get('content-type', '')!r}; expected application/json"
    return None


class CrossSiteProtection:
    """ASGI middleware that answers 403 with the reason if `rejection` returns one."""

    def __init__(self, app: App, page: str) -> None:
        self.app, self.page = app, page

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            why = rejection(scope["type"], scope.get("method", ""), scope["path"], headers, self.page)
            if why and scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # closing before accepting sends 403
                return
            if why:
                kind = (b"content-type", b"text/plain; charset=utf-8")
                await send({"type": "http.response.start", "status": 403, "headers": [kind]})
                await send({"type": "http.response.body", "body": f"Rejected. {why}\n".encode()})
                return
        await self.app(scope, receive, send)
