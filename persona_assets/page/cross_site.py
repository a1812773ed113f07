"""What Dagster's page refuses: what another web site asks of it in the browser of a person on this machine.

Dagster asks nobody who they are and executes what reaches its GraphQL address, mutations sent by GET included. A page
on loopback can be reached by every site that is open in a browser on this machine: by a form or an image (cross-site
request forgery), a WebSocket, or a name that suddenly resolves to 127.0.0.1 (DNS rebinding). Each of these carries a
header that tells on it.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def refusal(kind: str, method: str, path: str, headers: Mapping[str, str], page: str) -> str | None:
    """Why a request is not answered; None if it is.

    Args:
        kind: `http` or `websocket`.
        method: `GET`, `POST`, …; without meaning for a websocket.
        path: the address without its query.
        headers: by lower-case name.
        page: the page's address as people use it, such as `https://personas.example.org`.
    """
    public = urlsplit(page)
    host = urlsplit(f"//{headers.get('host', '')}")
    if host.hostname not in (*LOOPBACK, public.hostname):
        return (
            f"Host: found {host.netloc!r}; expected this machine's own {', '.join(LOOPBACK)} or the page's address. "
            "If people reach the page by that name, say so: PERSONA_ASSETS_PAGE=https://that-name"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in (host.netloc, public.netloc):
        return f"Origin: found {origin!r}; expected {host.netloc!r}: another site may not act in this page's name"
    if kind == "http" and path.endswith("/graphql"):
        # No other site can send JSON unasked, and none can have the query page (text/html) run a query.
        if method == "GET" and "text/html" not in headers.get("accept", ""):
            return "GET: expected a query to be sent by POST"
        if method == "POST" and not headers.get("content-type", "").startswith("application/json"):
            return f"Content-Type: found {headers.get('content-type', '')!r}; expected application/json"
    return None


class PageGuard:
    """ASGI middleware: answers 403 and the reason where `refusal` has one."""

    def __init__(self, app: App, page: str) -> None:
        self.app, self.page = app, page

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            why = refusal(scope["type"], scope.get("method", ""), scope["path"], headers, self.page)
            if why and scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the client reads 403
                return
            if why:
                kind = (b"content-type", b"text/plain; charset=utf-8")
                await send({"type": "http.response.start", "status": 403, "headers": [kind]})
                await send({"type": "http.response.body", "body": f"Refused. {why}\n".encode()})
                return
        await self.app(scope, receive, send)
