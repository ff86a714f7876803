"""What goes wrong between a client and a server, on request."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

SLOW_S = 0.4
Kind = Literal["failing", "slow", "closed", "reply lost", "page of a proxy"]


@dataclass(frozen=True)
class Fault:
    """Happens once, to the first request that fits."""

    kind: Kind
    path_end: str
    method: str = "GET"
    status: int = 503
    """Of a failing one."""


class FaultyApp:
    """Passes requests on to an application unless a fault is due."""

    def __init__(self, app: Any, faults: list[Fault], asked: list[str]) -> None:
        self._app = app
        self._faults = faults
        self._asked = asked

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = scope["query_string"].decode()
        self._asked.append(f"{scope['method']} {scope['path']}" + (f"?{query}" if query else ""))
        for fault in self._faults:
            if scope["path"].endswith(fault.path_end) and scope["method"] == fault.method:
                self._faults.remove(fault)
                await self._fail(fault, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _fail(self, fault: Fault, scope: Any, receive: Any, send: Any) -> None:
        if fault.kind == "slow":
            await self._app(scope, receive, _late(send))
        elif fault.kind == "failing":
            await self._answer(send, fault.status, b"Internal Server Error", b"text/plain")
        elif fault.kind == "page of a proxy":
            await self._answer(send, 200, b"<html>Please log in</html>", b"text/html")
        else:
            if fault.kind == "reply lost":
                await self._app(scope, receive, _nowhere)
            headers = [(b"content-length", b"10")]  # more than is sent: the connection is closed
            await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _answer(self, send: Any, status: int, body: bytes, kind: bytes) -> None:
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _late(send: Any) -> Any:
    """The work is done, the answer comes after some time."""

    async def send_late(message: Any) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(SLOW_S)
        await send(message)

    return send_late


async def _nowhere(message: Any) -> None:
    """The work is done, the answer goes nowhere."""
