"""Requests to py-ispyb: login, a token that is renewed, retries, pages, and errors in our own words.

The errors promised in ``protocol.py`` come from the answer: 404 is NotFoundError; 5xx, 408, 429 and a
connection that fails are UnavailableError, after some tries; all else that is no success, RejectedError.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import httpx

from ispyb_io.protocol import NotFoundError, RejectedError, UnavailableError
from ispyb_io.rest_address import RestAddress

RETRY_DELAYS_S = (0.5, 1.0, 2.0)
PAGE_SIZE = 100
PASSING_STATUSES = (408, 429)
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""After these the server cannot have done anything."""


class LostReplyError(UnavailableError):
    """The server may have done what it was asked, or not: no answer came, or that it failed."""


class Page(NamedTuple):
    """Part of a list."""

    total: int
    """Of the whole list."""
    results: list[dict[str, Any]]


def open_http(address: RestAddress) -> httpx.Client:
    """Client for an address, with our timeouts; nothing is connected yet."""
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return httpx.Client(base_url=address.url, timeout=timeout)


class RestSession:
    """Asks py-ispyb with a token of our login; safe to use from several threads.

    Parameters
    ----------
    http
        Its ``base_url`` is the root of the API.
    address
        Who logs in, through which plugin.
    delays_s
        Seconds before each repetition of a request that may be repeated.
    """

    def __init__(
        self,
        http: httpx.Client,
        address: RestAddress,
        *,
        delays_s: Sequence[float] = RETRY_DELAYS_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = address.url
        self._http = http
        self._address = address
        self._delays_s = tuple(delays_s)
        self._sleep = sleep
        self._lock = threading.Lock()
        self._token: str | None = None
        self._permissions: frozenset[str] = frozenset()

    @property
    def permissions(self) -> frozenset[str]:
        """What the account may do, as told at the login."""
        self._current_token()
        return self._permissions

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """Answer to a GET; repeated if the server is away."""
        return self._repeated(lambda: self._authorised("GET", path, params=parameters))

    def page(self, path: str, skip: int, **parameters: Any) -> Page:
        """Part of a list, in the server's order."""
        answer = self.get(path, **parameters, skip=skip, limit=PAGE_SIZE)
        try:
            return Page(int(answer["total"]), list(answer["results"]))
        except (TypeError, KeyError, ValueError) as error:
            raise RejectedError(
                f"GET {self._where(path)}: expected a page with total and results, got {str(answer)[:80]!r}"
            ) from error

    def pages(self, path: str, **parameters: Any) -> Iterator[Page]:
        """All pages of a list that hold something."""
        skip, page = 0, self.page(path, 0, **parameters)
        while page.results:
            yield page
            skip += len(page.results)
            if skip >= page.total:
                return
            page = self.page(path, skip, **parameters)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Answer to a POST, which is repeated only while nothing can have reached the server.

        Raises
        ------
        LostReplyError
            Look whether it was done before asking again.
        """
        return self._repeated(lambda: self._authorised("POST", path, json=body))

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Whether a condition comes true within the delays between retries."""
        for delay in self._delays_s:
            self._sleep(delay)
            if condition():
                return True
        return False

    def _repeated(self, ask: Callable[[], Any]) -> Any:
        for delay in self._delays_s:
            try:
                return ask()
            except LostReplyError:
                raise
            except UnavailableError:
                self._sleep(delay)
        return ask()

    def _authorised(self, method: str, path: str, **content: Any) -> Any:
        """One request; once more with a new token if this one is not taken any more."""
        token = self._current_token()
        response = self._send(method, path, token, **content)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            response = self._send(method, path, self._renewed_token(token), **content)
        return self._answer(response, path)

    def _current_token(self) -> str:
        return self._renewed_token(None) if self._token is None else self._token

    def _renewed_token(self, refused: str | None) -> str:
        """Log in, unless another thread has done so since this token was refused."""
        with self._lock:
            if self._token is None or self._token == refused:
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> str:
        address = self._address
        body = {
            "plugin": address.plugin or self._only_plugin(),
            "login": address.login or None,
            "password": address.password.get_secret_value() if address.password else None,
            "token": address.token.get_secret_value() if address.token else None,
        }
        response = self._repeated(lambda: self._passing_raised(self._send("POST", "auth/login", json=body)))
        if response.status_code not in (httpx.codes.OK, httpx.codes.CREATED):
            raise RejectedError(
                f"{self._where('auth/login')}: the login as {address.login or 'the holder of the token'!r} "
                f"through the plugin {body['plugin']!r} was refused ({_told(response)}); the server has the "
                f"plugins {', '.join(self._plugins())}"
            )
        answer = self._answer(response, "auth/login")
        if not isinstance(answer, dict) or not isinstance(answer.get("token"), str):
            raise RejectedError(f"{self._where('auth/login')}: the answer holds no token; is this py-ispyb?")
        self._permissions = frozenset(answer.get("permissions") or ())
        return answer["token"]

    def _passing_raised(self, response: httpx.Response) -> httpx.Response:
        """Same response, unless the server is only away: that raises UnavailableError."""
        if _is_passing(response):
            raise UnavailableError(f"{self._where('auth/login')}: {_told(response)}")
        return response

    def _plugins(self) -> list[str]:
        response = self._repeated(lambda: self._passing_raised(self._send("GET", "auth/config")))
        answer = self._answer(response, "auth/config")
        try:
            return [plugin["name"] for plugin in answer["plugins"]]
        except (TypeError, KeyError) as error:
            raise RejectedError(
                f"{self._where('auth/config')}: the answer names no login plugins; is this py-ispyb?"
            ) from error

    def _only_plugin(self) -> str:
        plugins = self._plugins()
        if len(plugins) != 1:
            raise RejectedError(
                f"{self.url} has the login plugins {', '.join(plugins) or 'none'}; name one in the address, "
                f"e.g. {self.url}?plugin={plugins[0] if plugins else 'ldap'}"
            )
        return plugins[0]

    def _send(self, method: str, path: str, token: str | None = None, **content: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # GET /events may be served as /events/; a POST is never sent twice
        redirects = method == "GET"
        try:
            return self._http.request(method, path, headers=headers, follow_redirects=redirects, **content)
        except (httpx.TransportError, httpx.TooManyRedirects) as error:
            lost = method == "POST" and path != "auth/login" and not isinstance(error, NOT_SENT)
            kind = LostReplyError if lost else UnavailableError
            reason = str(error) or type(error).__name__
            raise kind(f"{method} {self._where(path)}: {reason}") from error

    def _answer(self, response: httpx.Response, path: str) -> Any:
        """Content of a successful answer; else the error that its status stands for."""
        method = response.request.method
        problem = f"{method} {self._where(path)}: {_told(response)}"
        if _is_passing(response):
            raise (LostReplyError if method == "POST" else UnavailableError)(problem)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFoundError(problem)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise RejectedError(f"{problem}, though the login was new; the account may lack a permission")
        if not response.is_success:
            raise RejectedError(problem)
        try:
            return response.json()
        except ValueError as error:
            kind = response.headers.get("content-type", "no content type")
            raise RejectedError(
                f"{method} {self._where(path)}: got {kind}, expected JSON; does the address end at the root "
                "of the API, e.g. /ispyb/api/v1?"
            ) from error

    def _where(self, path: str) -> str:
        return f"{self.url}/{path}"


def _is_passing(response: httpx.Response) -> bool:
    return response.is_server_error or response.status_code in PASSING_STATUSES


def _told(response: httpx.Response) -> str:
    """Status and reason in one line. What was sent is not repeated: a 422 quotes it, passwords too."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    try:
        detail = response.json()["detail"]
    except (ValueError, TypeError, KeyError):
        return status
    if isinstance(detail, list):
        detail = "; ".join(
            f"{'.'.join(map(str, item.get('loc', ())))}: {item.get('msg', '')}"
            for item in detail
            if isinstance(item, dict)
        )
    return f"{status}: {detail}"[:300]
