"""The address of a py-ispyb, with the login and what of it is to be watched."""

from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import SecretStr

from ispyb_io.protocol import RejectedError
from ispyb_io.records import Record

API_ROOT = "/ispyb/api/v1"
"""Where py-ispyb serves its API unless told otherwise."""
PARAMETERS = ("plugin", "token", "beamline", "proposal")


class RestAddress(Record):
    """Where the API is, who logs in, and which beamlines and proposals the watcher asks for."""

    url: str
    """Up to the API's root, without user, password and parameters."""
    login: str = ""
    password: SecretStr | None = None
    plugin: str = ""
    """Name of the login plugin, as in the server's auth.yml; empty: the only one it has."""
    token: SecretStr | None = None
    """Handed to the login plugin in place of a password (Keycloak)."""
    beamlines: tuple[str, ...] = ()
    """As in BLSession.beamLineName; empty: all that the account may see."""
    proposals: tuple[str, ...] = ()
    """e.g. mx1234; empty: all that the account may see."""

    def filters(self) -> list[dict[str, str]]:
        """Parameters of ``/events`` that together cover what is to be watched."""
        filters: list[dict[str, str]] = [{}]
        for name, values in (("beamLineName", self.beamlines), ("proposal", self.proposals)):
            if values:
                filters = [{**before, name: value} for before in filters for value in values]
        return filters


def is_rest(url: str) -> bool:
    """Whether an address is of an API and not of a database."""
    return url.partition("://")[0].lower() in ("http", "https")


def parse_rest_address(url: str) -> RestAddress:
    """Take apart ``https://user:password@host/ispyb/api/v1?plugin=ldap&beamline=ID29``.

    Raises
    ------
    RejectedError
        It cannot be taken apart. The message never quotes it: there may be a password anywhere in it.
    """
    try:
        parts = urlsplit(url)
        parameters = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        port = parts.port
    except ValueError:
        parts, parameters, port = None, {}, None
    if parts is None or not is_rest(url) or not parts.hostname or _misplaced(parts):
        _reject("the address of py-ispyb is not understood")
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        _reject(f"the address of py-ispyb has {len(unknown)} parameters that are not known")
    if any(len(parameters.get(name, [])) > 1 for name in ("plugin", "token")):
        _reject("the address of py-ispyb names two plugins, or two tokens")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    where = host if port is None else f"{host}:{port}"
    root = parts.path.rstrip("/") or API_ROOT
    values: dict[str, Any] = {
        "url": f"{parts.scheme}://{where}{root}",
        "login": unquote(parts.username or ""),
        "password": None if parts.password is None else SecretStr(unquote(parts.password)),
        "plugin": parameters.get("plugin", [""])[0],
        "token": SecretStr(parameters["token"][0]) if "token" in parameters else None,
        "beamlines": tuple(parameters.get("beamline", ())),
        "proposals": tuple(parameters.get("proposal", ())),
    }
    return RestAddress(**values)


def _misplaced(parts: SplitResult) -> bool:
    """Whether a password that is not escaped has spilt into another part of the address."""
    outside = parts.path + parts.query + parts.fragment
    return "@" in outside or parts.netloc.count("@") > 1 or bool(parts.fragment)


def _reject(problem: str) -> NoReturn:
    raise RejectedError(
        f"{problem}; expected e.g. https://user:password@host{API_ROOT}?plugin=ldap, with the parameters "
        f"{', '.join(PARAMETERS)}, where special characters are escaped: %40 for '@', %3A for ':', "
        "%2F for '/', %3F for '?', %23 for '#', %25 for '%'"
    )
