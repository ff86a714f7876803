"""A word from data acquisition wakes the watcher before its time; what is true stays in ISPyB."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ssx_processing.errors import SettingsError

LONGEST_BODY = 10_000
"""Bytes."""


class Wake:
    """Wakes one who sleeps."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.last_look: datetime | None = None

    def up(self) -> None:
        """Wake the watcher; once is enough for many."""
        self._event.set()

    def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than until somebody wakes us; a word that came before counts."""
        self._event.wait(seconds)
        self._event.clear()


@contextmanager
def listening(address: str | None, wake: Wake) -> Iterator[None]:
    """Take POST /wake for the block.

    Parameters
    ----------
    address
        ``PORT`` or ``HOST:PORT``; by default on this computer only. None: nobody listens.

    Raises
    ------
    SettingsError
        It is no address, or the port is taken.
    """
    if address is None:
        yield
        return
    place = host_and_port(address, "--listen")
    try:
        server = ThreadingHTTPServer(place, _handler_of(wake))
    except (OverflowError, OSError) as error:
        raise SettingsError(f"--listen {address}: {error}; expected PORT or HOST:PORT, e.g. 8300") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="wake")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def host_and_port(address: str, option: str) -> tuple[str, int]:
    """Where to listen; by default on this computer only.

    Raises
    ------
    SettingsError
        It is no address.

    Examples
    --------
    >>> host_and_port("8300", "--listen"), host_and_port("0.0.0.0:8300", "--listen")
    (('127.0.0.1', 8300), ('0.0.0.0', 8300))
    """
    host, _, port = address.rpartition(":")
    try:
        return host or "127.0.0.1", int(port)
    except ValueError as error:
        raise SettingsError(f"{option} {address}: {error}; expected PORT or HOST:PORT, e.g. 8300") from error


def _handler_of(wake: Wake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # s; a client that says nothing is left

        def do_GET(self) -> None:
            seen = "not yet" if wake.last_look is None else f"{wake.last_look:%Y-%m-%d %H:%M:%S}"
            self._answer(HTTPStatus.OK, f"ssx watch; it looked into ISPyB last: {seen}. POST /wake wakes it.")

        def do_POST(self) -> None:
            problem = self._problem()
            if problem:
                self._answer(HTTPStatus.BAD_REQUEST, problem)
                return
            wake.up()
            self._answer(HTTPStatus.ACCEPTED, "it looks now")

        def _problem(self) -> str:
            if self.path != "/wake":
                return f"{self.path} is not known; POST /wake"
            try:
                length = int(self.headers.get("Content-Length") or 0)
            except ValueError:
                return "Content-Length is no number"
            if length < 0:
                return "Content-Length is negative"
            if length > LONGEST_BODY:
                return f"the body has {length} bytes, at most {LONGEST_BODY} are read"
            body = self.rfile.read(length)
            try:
                content = json.loads(body) if body.strip() else {}
            except (ValueError, RecursionError):
                return 'the body is no JSON; it may be empty, or e.g. {"group_id": 12}'
            if not isinstance(content, dict) or not isinstance(content.get("group_id", 0), int):
                return 'expected nothing or {"group_id": 12}'
            return ""

        def _answer(self, status: HTTPStatus, text: str) -> None:
            data = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the terminal is the watcher's."""

    return Handler
