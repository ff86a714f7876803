"""Clients for the py-ispyb of the tests."""

import httpx

from ispyb_io.rest_address import parse_rest_address
from ispyb_io.rest_client import RestClient
from ispyb_io.rest_session import RestSession

TIMEOUT_S = 10
IMPATIENT_S = 0.2
"""A slow answer takes longer."""


def make_client(url: str, login: str = "abcd:p%40ss@", **parameters: str) -> RestClient:
    """Client with a login, and parameters of the address."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    address = parse_rest_address(url.replace("://", f"://{login}") + (f"?{query}" if query else ""))
    http = httpx.Client(base_url=address.url, timeout=TIMEOUT_S)
    return RestClient(RestSession(http, address, delays_s=(0.01, 0.02, 0.04)), address.filters())


def make_impatient(client: RestClient) -> None:
    """Let it wait less than a slow answer takes."""
    client._session._http.timeout = httpx.Timeout(IMPATIENT_S, connect=TIMEOUT_S)
