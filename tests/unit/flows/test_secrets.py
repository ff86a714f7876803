"""A password given to a site's settings is shown by no message, traceback or repr."""

import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from flows.databases import open_databases
from flows.secret_values import reveal
from flows.settings import SiteSettings
from ispyb_io.protocol import IspybError
from ssx_processing.errors import SettingsError

PASSWORD = "Hush7Hush"  # noqa: S105
URL = f"mysql+pymysql://ssx:{PASSWORD}@127.0.0.1:1/ispyb"


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.fixture(autouse=True)
def no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSX_DATA_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ispyb_ulr: {url}", "ispyb_ulr: there is no such setting"),
        ("ispyb_url: [{url}]", "ispyb_url: Input should be a valid string"),
        ("ispyb_url:\n  url: {url}", "ispyb_url"),
        ("geometry_file:\n  ispyb_url: {url}", "geometry_file"),
        ("n_workers: {url}", "n_workers: Input should be a valid integer"),
        ("ispyb_url: {url}\nn_workers: -1", "n_workers: .* got -1"),
        ("ispyb_url: *{password}", "line 1: is no YAML"),
        ("ispyb_url: {url}\n  data_home: x", "line 2: is no YAML"),
        ("ispyb_url: '{url}", "is no YAML"),
        ("{url}", "expected settings as name: value"),
    ],
)
def test_a_wrong_settings_file_is_described_without_its_secrets(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "site.yaml"
    file.write_text(text.format(url=URL, password=PASSWORD))
    monkeypatch.setenv("SSX_SETTINGS_FILE", str(file))
    with pytest.raises(SettingsError, match=message) as error:
        SiteSettings()
    assert PASSWORD not in told(error.value)
    assert error.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "value"), [("N_WORKERS", URL), ("PROCESSING", URL), ("PATIENCE_S", PASSWORD)]
)
def test_a_secret_in_the_wrong_variable_is_not_quoted(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSX_ISPYB_URL", URL)
    monkeypatch.setenv(f"SSX_{name}", value)
    with pytest.raises(SettingsError, match=rf"(?i){name}") as error:
        SiteSettings()
    assert URL not in told(error.value)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"mysql+pymysql://127.0.0.1:1/ispyb?user=ssx&password={PASSWORD}",
        f"oracle://ssx:{PASSWORD}@host/ispyb",
        f"postgresql://ssx:{PASSWORD}@host/ispyb",
        f"mysql+pymysql://ssx:{PASSWORD}@host@host/ispyb",
        f"mysql+pymysql://ssx:{PASSWORD}@host:port/ispyb",
        f"mysql://ssx:{PASSWORD}@127.0.0.1:1/ispyb?no_such_option=1",
        f"ssx:{PASSWORD}@host/ispyb",
        f"://{PASSWORD}",
    ],
)
@pytest.mark.parametrize("setting", ["SSX_ISPYB_URL", "SSX_LEDGER_URL"])
def test_an_address_that_does_not_answer_or_is_wrong_is_not_told(
    setting: str, url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(setting, url)
    site = SiteSettings()
    assert PASSWORD not in repr(site) + str(site) + site.model_dump_json()
    with pytest.raises((IspybError, TypeError)) as error, open_databases(site, create=True) as databases:
        databases.require_ispyb().find_groups()
    assert PASSWORD not in told(error.value)


def test_a_secret_is_read_from_the_file_that_a_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "secret").write_text(f"{URL}\n")
    monkeypatch.setenv("SSX_ISPYB_URL_FILE", str(tmp_path / "secret"))
    site = SiteSettings()
    assert site.ispyb_url == SecretStr(URL)
    assert PASSWORD not in repr(site)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("", "on one line"),
        (f"a\n{PASSWORD}\n", "on one line"),
        (URL, "both SSX_ISPYB_URL and"),
    ],
)
def test_a_file_without_one_secret_is_refused(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if content is not None:
        (tmp_path / "secret").write_text(content)
    monkeypatch.setenv("SSX_ISPYB_URL_FILE", str(tmp_path / "secret"))
    if content == URL:
        monkeypatch.setenv("SSX_ISPYB_URL", URL)
    with pytest.raises(SettingsError, match=message) as error:
        SiteSettings()
    assert PASSWORD not in told(error.value)


def test_only_secrets_have_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSX_GEOMETRY_FILE_FILE", str(tmp_path))
    monkeypatch.delenv("SSX_GEOMETRY_FILE", raising=False)
    assert SiteSettings().geometry_file is None


def test_a_value_that_names_no_block_is_itself():
    assert reveal(SecretStr(URL)) == URL
