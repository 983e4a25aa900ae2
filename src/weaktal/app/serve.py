"""From a path to a running server."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path

from weaktal.app.project import Project
from weaktal.core import InputError

PORT = 8420


def listening(host: str, port: int | None) -> socket.socket:
    """A socket at an address; without a port the usual one, or the next one that is free.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise InputError("no such address", field="--host", found=host, expected=error.strerror) from None
    tries = [port] if port is not None else [*range(PORT, PORT + 40), 0]
    for number in tries:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, number))
            found.listen(128)
        except OSError as error:
            found.close()
            if number == tries[-1]:
                raise InputError(
                    "cannot listen there", field="--host/--port", found=f"{host}:{number}, {error.strerror}"
                ) from None
            continue
        return found
    raise AssertionError


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(path: Path, host: str = "127.0.0.1", port: int | None = None) -> int:
    """Open a project, print its address, and serve it until the process is told to end.

    Raises:
        InputError: no project can be made of `path`, the address is taken, a package is missing.
    """
    try:
        import uvicorn

        from weaktal.app.security import Guard, token_of
        from weaktal.app.server import Room, application
    except ModuleNotFoundError as error:
        raise InputError(
            f"the page needs the package {error.name}", hint="pip install 'weaktal[app]'"
        ) from None
    found = listening(host, port)
    project = Project.open(path)
    room = Room(project)
    number = found.getsockname()[1]
    token = token_of(project.folder / "cache")
    guarded = Guard(application(room), token, host, number)
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host
    shown = f"[{shown}]" if ":" in shown and not shown.startswith("[") else shown
    for notice in project.notices:
        print(f"note: {notice}", file=sys.stderr)
    if not is_loopback(host):
        print(
            f"--host {host}: everyone who reaches this machine and has the token below can watch the videos, "
            "change labels and start training; nothing is encrypted, so use it in networks that you trust",
            file=sys.stderr,
        )
    print(f"http://{shown}:{number}/?token={token}", flush=True)
    config = uvicorn.Config(
        guarded, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
    )
    uvicorn.Server(config).run(sockets=[found])
    return 0
