"""Where secrets come from besides the environment: a file that a variable names, a block of Prefect.

They are ``SecretStr`` from the start, so that no repr, log line or error shows them.
"""

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ssx_processing.errors import SettingsError

BLOCK = "prefect-secret:"
"""A secret that begins so names the Secret block of Prefect that holds it."""


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting holds a secret."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


class SecretFiles(PydanticBaseSettingsSource):
    """Takes a secret from the file that ``SSX_..._FILE`` names, as containers and systemd hand them in."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str) -> None:
        super().__init__(settings_cls)
        self._prefix = prefix

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the file, without the line break at its end; None where none is named.

        Raises
        ------
        SettingsError
            It cannot be read, is empty, or the secret itself is in the environment too.
        """
        variable = f"{self._prefix}{field_name}".upper()
        named = os.environ.get(f"{variable}_FILE")
        if named is None or not is_secret(field):
            return None, field_name, False
        if variable in os.environ:
            raise SettingsError(f"both {variable} and {variable}_FILE are set; leave one out")
        try:
            content = Path(named).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            raise SettingsError(f"{variable}_FILE names {named}: {reason}") from None
        if not content or "\n" in content:
            raise SettingsError(
                f"{variable}_FILE names {named}: expected the secret on one line, and nothing else"
            )
        return content, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All secrets for which a file is named."""
        fields = self.settings_cls.model_fields.items()
        found = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: value for name, value in found.items() if value is not None}


def reveal(secret: SecretStr) -> str:
    """Value of a secret; of the block of Prefect that it names, asked for now.

    Raises
    ------
    SettingsError
        Prefect has no such block, or it holds no text.
    """
    value = secret.get_secret_value()
    if not value.startswith(BLOCK):
        return value
    from prefect.blocks.system import Secret

    name = value.removeprefix(BLOCK)
    try:
        held = Secret.load(name, _sync=True).get()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    except ValueError:
        held = None
    if not isinstance(held, str):
        # raised out here: the error of a block whose content does not fit quotes it
        raise SettingsError(
            f"a setting says {BLOCK}{name}, but Prefect has no Secret block {name!r} with a text; make it in "
            "the UI (Blocks) of the server that PREFECT_API_URL names"
        )
    return held
