"""A secret of a site may be in a Secret block of Prefect."""

import traceback

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from flows.secret_values import reveal
from ssx_processing.errors import SettingsError

pytestmark = pytest.mark.usefixtures("prefect_server")

PASSWORD = "Hush7Hush"  # noqa: S105


def keep(name: str, value: str | dict[str, str]) -> SecretStr:
    """Put it into a block; returns how settings name that."""
    Secret(value=value).save(name, _sync=True)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return SecretStr(f"prefect-secret:{name}")


def test_a_block_that_is_named_is_asked_for():
    assert reveal(keep("ssx-test-text", PASSWORD)) == PASSWORD


def test_a_block_that_holds_no_text_is_an_error_that_does_not_tell_it():
    with pytest.raises(SettingsError, match="Prefect has no Secret block 'ssx-test-object'") as error:
        reveal(keep("ssx-test-object", {"url": PASSWORD}))
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


def test_a_block_that_is_missing_is_an_error():
    with pytest.raises(SettingsError, match="Prefect has no Secret block 'no-such-block'"):
        reveal(SecretStr("prefect-secret:no-such-block"))
