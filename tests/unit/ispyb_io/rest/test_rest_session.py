"""Login, the token, retries, and what becomes of an answer that is none."""

import json
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext

import httpx
import pytest

from flows.cli_ispyb import check_rest
from ispyb_io.protocol import NotFoundError, RejectedError, UnavailableError
from ispyb_io.rest_address import RestAddress
from ispyb_io.rest_client import RestClient, open_rest
from ispyb_io.rest_session import RestSession

from .client import make_client, make_impatient
from .faults import Fault, Kind
from .served import Pyispyb


def test_the_only_plugin_is_found_out(server: Pyispyb, client: RestClient):
    client.find_groups()
    expected = {"plugin": "dummy", "login": "abcd", "password": "p@ss", "token": None}
    assert server.logins == [expected]


def test_of_several_plugins_one_is_named(server: Pyispyb, url: str):
    server.plugins = ("keycloak", "ldap")
    with (
        closing(make_client(url)) as client,
        pytest.raises(RejectedError, match="plugins keycloak, ldap; name"),
    ):
        client.find_groups()
    with closing(make_client(url, plugin="ldap")) as client:
        assert client.find_groups() == []
    assert [login["plugin"] for login in server.logins] == ["ldap"]


def test_a_token_logs_in_where_the_plugin_takes_one(server: Pyispyb, url: str):
    with closing(make_client(url, login="", token="keycloak-token")) as client:  # noqa: S106
        assert client.find_groups() == []
    assert server.logins[0]["token"] == "keycloak-token"  # noqa: S105


def test_a_wrong_password_is_not_worth_a_retry_and_never_told(server: Pyispyb, url: str):
    with closing(make_client(url, login="abcd:hush-secret@")) as client:
        with pytest.raises(
            RejectedError, match="login as 'abcd' through the plugin 'dummy' was ref"
        ) as raised:
            client.find_groups()
    assert len(server.logins) == 1
    assert "hush-secret" not in "".join(traceback.format_exception(raised.value))


def test_a_rejected_login_body_is_not_quoted():
    detail = [{"loc": ["body", "password"], "msg": "too short", "input": {"password": "hush-secret"}}]
    transport = httpx.MockTransport(lambda _: httpx.Response(422, json={"detail": detail}))
    address = RestAddress(url="http://ispyb", plugin="ldap", login="abcd")
    session = RestSession(httpx.Client(base_url=address.url, transport=transport), address)
    with pytest.raises(RejectedError) as raised:
        session.get("events")
    assert "hush-secret" not in "".join(traceback.format_exception(raised.value))


def test_an_expired_token_is_renewed(server: Pyispyb, client: RestClient):
    client.find_groups()
    server.tokens.clear()
    assert client.find_groups() == []
    assert len(server.logins) == 2


def test_threads_whose_token_expires_together_log_in_once(server: Pyispyb, client: RestClient):
    client.find_groups()
    server.tokens.clear()
    barrier = threading.Barrier(4)

    def look(_: int) -> None:
        barrier.wait()
        client.find_groups(experiment_types=["SSX-Jet"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, range(4)))
    assert len(server.logins) == 2


def test_a_new_token_that_is_refused_too_is_rejected(server: Pyispyb, client: RestClient):
    server.faults += [Fault("failing", "/events", status=401)] * 2
    with pytest.raises(RejectedError, match="401 Unauthorized, though the login was new"):
        client.find_groups()
    assert len(server.logins) == 2


@pytest.mark.parametrize("path_end", ["/auth/config", "/auth/login", "/events"])
@pytest.mark.parametrize("kind", ["failing", "slow", "closed"])
def test_a_passing_fault_is_tried_again(server: Pyispyb, client: RestClient, kind: Kind, path_end: str):
    method = "POST" if path_end == "/auth/login" else "GET"
    server.faults += [Fault(kind, path_end, method)] * 2
    if kind == "slow":
        make_impatient(client)
    assert client.find_groups() == []
    assert server.faults == []


@pytest.mark.parametrize("kind", ["failing", "slow", "closed"])
def test_a_fault_that_stays_is_unavailable(server: Pyispyb, client: RestClient, kind: Kind):
    client._session._current_token()
    server.faults += [Fault(kind, "/events")] * 4
    if kind == "slow":
        make_impatient(client)
    with pytest.raises(UnavailableError, match=r"GET http://127\.0\.0\.1:\d+/ispyb/api/v1/events: "):
        client.find_groups()
    assert server.faults == []


def test_nobody_at_the_address_is_unavailable():
    with closing(make_client("http://127.0.0.1:1/ispyb/api/v1")) as client:
        with pytest.raises(UnavailableError, match="refused"):
            client.find_groups()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, RejectedError),
        (404, NotFoundError),
        (409, RejectedError),
        (422, RejectedError),
        (302, RejectedError),
    ],
)
def test_other_answers_are_not_tried_again(
    server: Pyispyb, client: RestClient, status: int, error: type[Exception]
):
    server.faults.append(Fault("failing", "/events", status=status))
    with pytest.raises(error, match=f"/events: {status} "):
        client.find_groups()


def test_a_page_that_is_not_the_api_is_rejected(server: Pyispyb, client: RestClient):
    server.faults.append(Fault("page of a proxy", "/events"))
    with pytest.raises(RejectedError, match="got text/html, expected JSON; does the address end at the root"):
        client.find_groups()


def test_an_address_beside_the_api_is_rejected(url: str):
    with closing(make_client(url.replace("/v1", "/v2"))) as client:
        with pytest.raises(NotFoundError, match="/ispyb/api/v2/auth/config: 404"):
            client.find_groups()


def test_a_path_that_the_server_ends_with_a_slash_is_followed(server: Pyispyb, client: RestClient):
    server.slashes = True
    assert client.find_groups() == []
    assert any("/events/?" in line for line in server.asked)


def test_no_secret_is_in_a_representation(url: str):
    with closing(open_rest(url.replace("://", "://abcd:p%40ss@") + "?token=keycloak-token")) as client:
        client._session._current_token()
        shown = repr([client, client._session, client._session._address, vars(client._session._address)])
    assert "p@ss" not in shown
    assert "keycloak" not in shown


@pytest.mark.parametrize(("permissions", "problem"), [(("ssx_sync",), False), ((), True)])
def test_the_check_of_an_address_of_the_web_logs_in_and_says_the_limits(
    server: Pyispyb, url: str, capsys: pytest.CaptureFixture[str], permissions: tuple[str, ...], problem: bool
):
    server.permissions = permissions
    with pytest.raises(RejectedError, match="lacks the permission") if problem else nullcontext():
        check_rest(url.replace("://", "://abcd:p%40ss@"), as_json=False)
    assert "It is not told merged results" in capsys.readouterr().out.replace("\n", " ")


def test_the_check_is_there_for_programs_too(url: str, capsys: pytest.CaptureFixture[str]):
    check_rest(url.replace("://", "://abcd:p%40ss@"), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["address"] == url
    assert told["offers"]["problems"] == []
    assert "merged results" in " ".join(told["offers"]["limits"])
