"""Settings of a site: where ISPyB is, where results go, what computes.

Read from a YAML file named by ``SSX_SETTINGS_FILE`` and from environment variables ``SSX_...``,
which win. Secrets come this way, from files or from Prefect's Secret blocks (``secret_values.py``), and
never as parameters of a flow, which Prefect shows.
"""

import datetime
import os
import re
from collections.abc import Collection
from pathlib import Path
from string import Formatter
from typing import Any, Literal, Self

import yaml
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as UnreadableValueError

from flows.chunk_limits import ChunkLimits
from flows.notification_settings import Notifications
from flows.prefect_environment import default_data_home
from flows.secret_values import SecretFiles, is_secret
from flows.slurm_jobs import SlurmJobs
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES
from ssx_processing.errors import SettingsError

FOLDER_PLACEHOLDERS = ("image_directory", "proposal", "visit", "beamline", "group_id")
SOME_TIME = datetime.datetime(2026, 1, 1)
IMAGE_PLACEHOLDERS = {
    "proposal": "mx1", "visit": 1, "beamline": "ID29", "session_date": SOME_TIME, "group_id": 1,
    "collection_id": 1, "number": 1, "start_time": SOME_TIME, "prefix": "chip", "sample": "chip",
    "protein": "lyso",
}  # fmt: skip
"""With an example of each."""


CHUNKS_IN_A_CLUSTERS_QUEUE = 200
"""A thread waits for each, which is cheap."""


class SiteSettings(BaseSettings):
    """What differs from one site, or one computer, to the next."""

    model_config = SettingsConfigDict(
        env_prefix="SSX_",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        """Read the settings from all sources.

        Raises
        ------
        SettingsError
            A setting is unknown or wrong, or a file that is named cannot be read. What was given is shown
            only where it can be no secret, and neither is the error behind it, which would quote it.
        """
        try:
            super().__init__(**values)
            return
        except ValidationError as error:
            problem = "; ".join(map(self._in_words, error.errors()))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark is not None else ""
            path = os.environ.get("SSX_SETTINGS_FILE")
            problem = f"{path}{line}: is no YAML; as it may hold secrets, it is not shown"
        except UnreadableValueError as error:
            name = re.search(r'field "(\w+)"', str(error))
            problem = (
                f'SSX_{name[1].upper() if name else "..."}: expected JSON, e.g. {{"spots": {{"gain": 2}}}}'
            )
        except SettingsError:
            raise
        except (TypeError, ValueError):
            path = os.environ.get("SSX_SETTINGS_FILE")
            problem = f"{path}: expected settings as name: value, one a line; what is there is not shown"
        raise SettingsError(problem)

    @classmethod
    def _in_words(cls, detail: ErrorDetails) -> str:
        """Pydantic's words for one setting, with what was given where that can be no secret."""
        name = ".".join(str(part) for part in detail["loc"])
        text = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            return f"{name}: there is no such setting of a site; see docs/reference/cli.md"
        if detail["type"].startswith("value_error"):
            return text
        given, field = detail["input"], cls.model_fields.get(str(detail["loc"][0]))
        is_plain = isinstance(given, int | float | str) and not re.search("://|@", str(given))
        shown = f", got {given!r}" if is_plain and field is not None and not is_secret(field) else ""
        return f"{name}: {text}{shown}"

    ispyb_url: SecretStr | None = None
    """SQLAlchemy URL of ISPyB, e.g. mysql+pymysql://user:password@host/ispyb, or the address of a py-ispyb,
    https://user:password@host/ispyb/api/v1?plugin=ldap&beamline=ID29; none: files only. Also
    prefect-secret:NAME, the Secret block of Prefect that holds it; or in a file, by SSX_ISPYB_URL_FILE."""
    ledger_url: SecretStr | None = None
    """SQLAlchemy URL of the ledger, given as ISPyB's; by default SQLite, beside the results of files, else in
    data_home."""
    data_home: Path = Field(default_factory=default_data_home)
    """Folder for the ledger and for Prefect's database, where nothing else is said."""
    processing_folder: str = "{image_directory}/../processing/ssx/group-{group_id}"
    """Where results of a group go; may use {image_directory}, {proposal}, {visit}, {beamline}, {group_id}."""
    merged_folder: str = "{image_directory}/../processing/ssx/merged/{name}"
    """Where merges of groups made by hand or by rule go; may use {name} and, of the first member, those."""
    samples_folder: str = ""
    """Where lies what later groups of the same protein need to know, a folder for each; may use the same
    names; by default ``samples`` beside the group's folder."""
    image_path_templates: tuple[str, ...] = ()
    """Where images lie whose record names no files, tried in this order; may use {proposal}, {visit},
    {beamline}, {session_date:%Y%m%d}, {start_time}, {prefix}, {number}, {sample}, {protein}, {group_id},
    {collection_id}, wildcards (then one file must match), and ##### for numbers."""
    proposal: str | None = None
    """Binds every command to the records and files of this proposal, e.g. mx1234; none: not bound."""
    allowed_roots: tuple[str, ...] = ()
    """Folders below which all files of a run must lie, symbolic links and links in HDF5 files followed; may
    use {proposal} and wildcards, e.g. ["/data/visitor/{proposal}"]; none: not limited."""
    shared_proposals: tuple[tuple[str, ...], ...] = ()
    """Sets of proposals whose data may be processed together, e.g. [["mx1234", "mx1235"]]."""
    experiment_types: tuple[str, ...] = SSX_EXPERIMENT_TYPES
    """What the watcher takes for serial crystallography."""
    processing: dict[str, Any] = {}
    """Settings of the processing that differ from the defaults, e.g. {"spots": {"gain": 2}}."""
    geometry_file: Path | None = None
    """CrystFEL's .geom or DIALS's .expt for all images, unless --geometry names another."""
    executor: Literal["local", "dask", "slurm"] = "local"
    """What computes chunks: processes of this machine, a Dask cluster that runs, or Slurm jobs."""
    dask_scheduler: str | None = None
    """Address of the Dask scheduler, e.g. tcp://host:8786, or the path of its file; for dask."""
    slurm: SlurmJobs = SlurmJobs()
    """The jobs; for slurm."""
    n_workers: PositiveInt = Field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Chunks computed at the same time; by default one for each core of this machine."""
    ispyb_wait_s: float = Field(default=30.0, ge=0)
    """So long at most a run waits at its end until ISPyB has its results; then they are in the outbox."""
    record_images: bool = False
    """Tell ISPyB of each image: spots, estimated resolution, total intensity (ImageQualityIndicators)."""
    confirm_cpu_hours: PositiveFloat | None = None
    """A job that needs more than this is begun only when somebody says yes (--yes, or in the Prefect UI)."""
    confirm_wait_s: PositiveFloat = 86400.0
    """So long a run waits for that in the Prefect UI."""
    newer_than: int = Field(default=0, ge=0)
    """The watcher leaves data collections up to this id alone, e.g. those of the years before it came."""
    launch: Literal["here", "deployment"] = "here"
    """Who processes what the watcher finds: its own process, or a worker, as a run of the deployment
    ``process/process-group`` on the Prefect server."""
    groups_per_look: PositiveInt = 20
    """So many groups the watcher takes up in one look, those still being collected first, then the newest."""
    poll_interval_s: PositiveFloat = 30.0
    """Time from one look of the watcher into ISPyB to the next."""
    quiet_time_s: PositiveFloat = 10.0
    """Files that changed within this time are still being written."""
    patience_s: PositiveFloat = 3600.0
    """So long after the last frame, or after the end of the collection, frames that are announced are waited
    for; then what is there is processed, and the result is partial."""
    live_wait_s: PositiveFloat = 60.0
    """So long a run waits for the next chunk of a collection that goes on; then the watcher may take up other
    groups, and comes back when there are more frames."""
    group_attempts: PositiveInt = 3
    """How often the watcher tries a group whose processing fails, or leaves chunks out."""
    runs_per_proposal: PositiveInt | None = None
    """So many groups of one proposal are processed or merged at the same time; others wait. None: any."""
    claim_timeout_s: PositiveFloat = 60.0
    """A run on another computer is taken over when it gave no sign of life for so long."""
    file_url: str = "file://{path}"
    """Where a browser finds a file of the results, e.g. https://files.example.org{path}."""
    notify_urls: SecretStr | None = None
    """Addresses of Apprise, with spaces between them, that hear of results: mail, chat, webhook; given as
    ISPyB's. None: nobody does."""
    notifications: Notifications = Notifications()
    """What they hear of."""
    chunk_limits: ChunkLimits = ChunkLimits()
    """What a chunk may take."""
    chunk_retries: int = Field(default=2, ge=0)
    """How often a chunk that failed for what may pass is tried again."""
    chunk_retry_delay_s: float = Field(default=2.0, ge=0)
    """Time before it is, doubled each time."""

    @model_validator(mode="after")
    def _dask_has_an_address(self) -> Self:
        if self.executor == "dask" and not self.dask_scheduler:
            raise ValueError(
                "executor dask needs dask_scheduler, the address of a scheduler, e.g. tcp://host:8786"
            )
        return self

    @property
    def workers(self) -> int:
        """Chunks that are computed at the same time, as far as settings tell."""
        return self.slurm.jobs * self.slurm.processes if self.executor == "slurm" else self.n_workers

    @property
    def chunks_at_once(self) -> int:
        """Chunks handed to the engine at the same time; a cluster has its own queue for what waits."""
        if "n_workers" in self.model_fields_set or self.executor == "local":
            return self.n_workers
        return CHUNKS_IN_A_CLUSTERS_QUEUE

    @field_validator("processing_folder", "merged_folder", "samples_folder")
    @classmethod
    def _known_placeholders(cls, value: str, info: ValidationInfo) -> str:
        of_groups = ("name",) if info.field_name == "merged_folder" else ()
        _check_placeholders(str(info.field_name), value, (*FOLDER_PLACEHOLDERS, *of_groups))
        if of_groups and "{name}" not in value:
            raise ValueError(
                f"merged_folder {value!r}: has no {{name}}; merges of all groups would be in one"
            )
        return value

    @field_validator("image_path_templates")
    @classmethod
    def _known_image_placeholders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for template in value:
            _check_placeholders("image_path_templates", template, IMAGE_PLACEHOLDERS)
            if not template.startswith("/"):
                raise ValueError(f"image_path_templates {template!r}: expected an absolute path")
            try:
                template.format(**IMAGE_PLACEHOLDERS)
            except (ValueError, AttributeError, LookupError, TypeError) as error:
                raise ValueError(f"image_path_templates {template!r}: {error}") from error
        return value

    @field_validator("file_url")
    @classmethod
    def _url_of_a_path(cls, value: str) -> str:
        _check_placeholders("file_url", value, ("path",))
        return value

    @field_validator("allowed_roots")
    @classmethod
    def _absolute_roots(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            fields = [field for _, field, _, _ in Formatter().parse(root) if field is not None]
            if not root.startswith("/") or any(field != "proposal" for field in fields):
                raise ValueError(
                    f"allowed_roots {root!r}: expected an absolute path that may use {{proposal}}, "
                    "e.g. /data/visitor/{proposal}"
                )
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before environment before the YAML file."""
        path = os.environ.get("SSX_SETTINGS_FILE")
        sources = (init_settings, env_settings, SecretFiles(settings_cls, "SSX_"))
        if path is None:
            return sources
        if not Path(path).is_file():
            raise SettingsError(f"SSX_SETTINGS_FILE names {path}, which is no file")
        return (*sources, YamlConfigSettingsSource(settings_cls, yaml_file=path))


def _check_placeholders(setting: str, template: str, known: Collection[str]) -> None:
    """Raise ValueError if a template uses what it will never be given."""
    may_be = ", ".join(f"{{{name}}}" for name in known)
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ValueError(f"{setting} {template!r}: {error}; it may use {may_be}") from error
    for field in fields:
        # {image_directory.parent} is as good
        if re.split(r"[.\[]", field)[0] not in known:
            raise ValueError(f"{setting} {template!r}: {{{field}}} is not known; it may use {may_be}")
