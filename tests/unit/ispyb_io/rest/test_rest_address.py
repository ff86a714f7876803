"""Addresses of py-ispyb, whose passwords are never told."""

import traceback

import pytest

from ispyb_io.protocol import RejectedError
from ispyb_io.rest_address import is_rest, parse_rest_address


def test_an_address_is_taken_apart():
    address = parse_rest_address(
        "https://ssx%40site:p%40ss%2F%3Aword@ispyb.site:8443/ispyb/api/v1/?plugin=ldap&beamline=ID29&beamline=ID30"
        "&proposal=mx1234"
    )
    assert address.url == "https://ispyb.site:8443/ispyb/api/v1"
    assert address.login == "ssx@site"
    assert address.password is not None
    assert address.password.get_secret_value() == "p@ss/:word"
    assert (address.plugin, address.token) == ("ldap", None)
    assert address.filters() == [
        {"beamLineName": "ID29", "proposal": "mx1234"},
        {"beamLineName": "ID30", "proposal": "mx1234"},
    ]


@pytest.mark.parametrize("url", ["http://ispyb.site", "http://ispyb.site/"])
def test_without_a_path_the_usual_one_is_meant(url: str):
    address = parse_rest_address(url)
    assert (address.url, address.filters()) == ("http://ispyb.site/ispyb/api/v1", [{}])


@pytest.mark.parametrize(
    ("url", "rest"),
    [("HTTPS://a/b", True), ("http://a", True), ("mysql+pymysql://a/b", False), ("/data/http/a.db", False)],
)
def test_addresses_of_the_web_are_told_from_databases(url: str, rest: bool):
    assert is_rest(url) is rest


@pytest.mark.parametrize(
    "url",
    [
        "https://nobody:hush@secret@server/api",
        "https://nobody:hush/secret@server/api",
        "https://nobody:hush?secret@server/api",
        "https://nobody:hush#secret@server/api",
        "https://nobody:hush-secret@server:port/api",
        "https://nobody:hush-secret@/api",
        "https://nobody:hush-secret@server/api?secret=hush",
        "https://nobody:hush-secret@server/api?secret",
        "https://nobody:hush-secret@server/api?plugin=secret&plugin=hush",
        "https://[nobody:hush-secret@server/api",
    ],
)
def test_an_address_that_is_not_understood_is_rejected_and_never_told(url: str):
    with pytest.raises(RejectedError, match=r"expected e\.g\. https://user:password@host") as raised:
        parse_rest_address(url)
    told = "".join(traceback.format_exception(raised.value)).lower().replace(__file__.lower(), "")
    assert not any(piece in told for piece in ("hush", "secret", "nobody", "server:port"))
    assert raised.value.__context__ is None
