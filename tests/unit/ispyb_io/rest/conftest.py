"""ISPyB behind the py-ispyb of the tests: these fixtures stand in for those of the databases."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine

from ispyb_io.rest_client import RestClient

from .client import make_client
from .served import Pyispyb
from .server import serving


@pytest.fixture
def ispyb(sqlite_ispyb: Engine) -> Engine:
    return sqlite_ispyb


@pytest.fixture
def server(ispyb: Engine) -> Pyispyb:
    return Pyispyb(ispyb)


@pytest.fixture
def url(server: Pyispyb) -> Iterator[str]:
    with serving(server) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[RestClient]:
    with closing(make_client(url)) as client:
        yield client
