"""Data acquisition wakes the watcher; wrong calls are told so."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from flows.wake import Wake, listening
from ssx_processing.errors import SettingsError


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def wake(port: int) -> Iterator[Wake]:
    wake = Wake()
    with listening(str(port), wake):
        yield wake


@pytest.mark.parametrize("body", ["", '{"group_id": 12}'])
def test_a_call_wakes_at_once_also_one_that_came_before(wake: Wake, port: int, body: str):
    answer = httpx.post(f"http://127.0.0.1:{port}/wake", content=body)
    assert answer.status_code == 202
    started = time.monotonic()
    wake.sleep(60)
    assert time.monotonic() - started < 30
    started = time.monotonic()
    wake.sleep(0.2)  # nobody called again
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/wakeup", "", "/wakeup is not known"),
        ("/wake", "{", "is no JSON"),
        ("/wake", "[12]", 'expected nothing or {"group_id": 12}'),
        ("/wake", '{"group_id": "x"}', "expected nothing"),
        ("/wake", "x" * 20_000, "the body has 20000 bytes"),
    ],
)
def test_a_wrong_call_is_told_so(wake: Wake, port: int, path: str, body: str, said: str):
    answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=body)
    assert (answer.status_code, said in answer.text) == (400, True)


def test_it_says_what_it_is(wake: Wake, port: int):
    assert "it looked into ISPyB last: not yet" in httpx.get(f"http://127.0.0.1:{port}/").text


@pytest.mark.parametrize("address", ["here", "127.0.0.1:", "1.2.3.4.5:80", "99999"])
def test_a_wrong_address_is_refused(address: str):
    with (
        pytest.raises(SettingsError, match=r"--listen .*expected PORT or HOST:PORT"),
        listening(address, Wake()),
    ):
        pass
