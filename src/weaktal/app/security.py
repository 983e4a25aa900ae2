"""Who may talk to the server: whoever knows the token, from a page of this very address, in bounded sizes."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 << 20  # of a request
MOST_UPLOAD = 256 << 20  # of a file that is imported
UPLOADS = ("/api/import/annotations",)
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'; object-src 'none'"
)


def token_of(cache: Path) -> str:
    """The token of a project: made once, readable by its owner only, so that a page survives a restart."""
    path = cache / "token"
    try:
        found = path.read_text(encoding="ascii").strip()
        if len(found) >= 32:
            return found
    except OSError:
        pass
    cache.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(token + "\n", encoding="ascii")
    return token


def known_host(host: str, names: set[str]) -> bool:
    """Whether a Host header is one that we are meant by: an IP address, or a name of this machine.

    A foreign name that somebody points at this machine (DNS rebinding) is none.

    >>> [known_host(h, {"localhost"}) for h in ("127.0.0.1:8420", "[::1]", "localhost:1", "evil.example")]
    [True, True, True, False]
    """
    name = urlsplit(f"//{host}").hostname or ""
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Around the whole application: host, origin, token and size are looked at before anything else."""

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self.app, self.token = app, token
        self.cookie = f"weaktal-{port}"
        self.names = {"localhost", host, socket.gethostname()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path: str = scope["path"]
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        most = MOST_UPLOAD if path in UPLOADS else MOST_BYTES
        if int(headers.get("content-length", "0") or 0) > most:
            await JSONResponse({"error": f"more than {most >> 20} MiB"}, 413)(scope, receive, send)
            return
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise ValueError("a request without a length is too large")
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["X-Content-Type-Options"] = "nosniff"
                out["Referrer-Policy"] = "no-referrer"
                out["Cross-Origin-Resource-Policy"] = "same-origin"
                out["Content-Security-Policy"] = CONTENT_POLICY
                if path.startswith("/api/"):
                    out["Cache-Control"] = out.get("Cache-Control", "no-store")
                if path == "/":
                    out["Set-Cookie"] = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            await send(message)

        await self.app(scope, bounded, marked)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | PlainTextResponse | None:
        path, host = scope["path"], headers.get("host", "")
        if not known_host(host, self.names):
            return PlainTextResponse("this server is not known under that name", 421)
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return JSONResponse({"error": "the request comes from another page"}, 403)
            if origin is None and headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return JSONResponse({"error": "the request comes from another page"}, 403)
        if path.startswith("/static/"):
            return None
        given = [c.partition("=") for c in headers.get("cookie", "").split("; ")]
        tokens = [value for name, _, value in given if name == self.cookie]
        tokens += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        tokens.append(headers.get("authorization", "").removeprefix("Bearer "))
        if any(secrets.compare_digest(t.encode(), self.token.encode()) for t in tokens):
            return None
        text = "open the address that `weaktal app` printed: the token is missing or of another project"
        return PlainTextResponse(text, 403) if path == "/" else JSONResponse({"error": text}, 403)
