"""Everything that runs at a beamline, on this machine and in one folder."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import httpx
import pymysql
from sqlalchemy import Engine, text

from deployments.stack.database_servers import (
    create_prefects_database,
    mariadb,
    mariadb_socket,
    mariadb_url,
    postgresql,
    prefects_url,
)
from deployments.stack.programs import (
    PROGRAMS,
    Program,
    StackError,
    free_port,
    is_healthy,
    last_lines,
    unit_command,
    unit_environment,
    wait_until,
)
from flows.demo import enter_chip
from flows.ispyb_check import closing_engine
from ispyb_io.asked_jobs import JOB, PARAMETER, SWEEP
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Processing
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings

REGISTER = Path(__file__).parents[1] / "register.py"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
CHIP = ChipSettings(n_frames=80, n_files=2, hit_fraction=0.5)
DATABASES = ("ispyb", "ssx")


class Machine:
    """PostgreSQL, Prefect's server, MariaDB with an ISPyB, a worker and the watcher.

    The commands and their environment are those of our systemd units, with passwords and places of its own.

    Parameters
    ----------
    folder
        For all of it; its path must be short, as sockets have paths of at most 107 characters.
    tell
        Told what is being done.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder, self.tell = folder, tell
        self.account = ("ssx", secrets.token_hex(8))
        self.api = f"http://127.0.0.1:{free_port()}/api"
        self.environment = self._environment()
        self.postgresql = postgresql(folder / "pg")
        self.mariadb = mariadb(folder / "my")
        self.server = self._program("Prefect server", unit_command("ssx-prefect-server"), self.server_answers)
        self.worker = self._program("worker", unit_command("ssx-worker"))
        watch = unit_command("ssx-watch")[:-1]
        self.watcher = self._program("watcher", [*watch, f"127.0.0.1:{free_port()}"])

    @property
    def programs(self) -> list[Program]:
        """In the order in which they start."""
        return [self.postgresql, self.mariadb, self.server, self.worker, self.watcher]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        for database in (self.postgresql, self.mariadb):
            self.tell(f"starting {database.name}")
            database.start()
        create_prefects_database(self.folder / "pg")
        self.create_ispyb()
        self.tell(f"starting {self.server.name}")
        self.server.start()
        self.register()
        for program in (self.worker, self.watcher):
            self.tell(f"starting {program.name}")
            program.start()

    def create_ispyb(self) -> None:
        """ISPyB's tables as far as we touch them, with Diamond's of jobs; the ledger makes its own."""
        with (
            pymysql.connect(unix_socket=str(mariadb_socket(self.folder / "my")), user="root") as connection,
            connection.cursor() as cursor,
        ):
            for name in DATABASES:
                cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        create_embedded_ispyb(self.address("ispyb")).dispose()
        with self.engine("ispyb") as engine, engine.begin() as ispyb:
            JOB.metadata.create_all(ispyb, [JOB, SWEEP, PARAMETER])
            ispyb.execute(text("ALTER TABLE AutoProcProgram ADD COLUMN processingJobId INTEGER UNSIGNED"))
        with self.engine("ssx") as engine:
            Ledger(engine).create_tables()

    def register(self) -> None:
        """Register the deployments; the watcher is a program here: its deployment needs no schedule."""
        self.tell("registering the deployments")
        self.run(sys.executable, str(REGISTER))
        self.prefect("deployment", "schedule", "clear", "watch/watch", "--accept-yes")

    def stop(self) -> None:
        """End everything."""
        for program in reversed(self.programs):
            program.stop()

    def run(self, *command: str) -> str:
        """Run a command in the stack's environment; returns what it prints.

        Raises
        ------
        StackError
            It fails.
        """
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, cwd=self.folder
        )
        if done.returncode:
            raise StackError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def prefect(self, *words: str) -> str:
        """Run a command of Prefect's."""
        return self.run(str(PROGRAMS / "prefect"), "--no-prompt", *words)

    def ssx(self, *words: str) -> str:
        """Run a command of ours."""
        return self.run(str(PROGRAMS / "ssx"), *words)

    def runs(self) -> list[dict[str, Any]]:
        """Flow runs that Prefect knows, the newest first."""
        return self.ask("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 200})

    def ask(self, path: str, content: Any) -> Any:
        """POST to Prefect's API."""
        answer = httpx.post(f"{self.api}/{path}", json=content, auth=self.account, timeout=30)
        if answer.is_error:
            raise StackError(f"POST {path}: HTTP {answer.status_code}, {answer.text}")
        return answer.json() if answer.content else None

    def server_answers(self) -> bool:
        """Whether Prefect's server is up."""
        return is_healthy(self.api)

    def address(self, database: str) -> str:
        """SQLAlchemy's, of a database in MariaDB."""
        return mariadb_url(self.folder / "my", database).render_as_string(hide_password=False)

    def engine(self, database: str) -> AbstractContextManager[Engine]:
        """A database for a block."""
        return closing_engine(self.address(database))

    def simulate(self) -> SimulatedChip:
        """The images that all groups have."""
        self.tell(f"simulating a chip of {CHIP.n_frames} images")
        return simulate_chip(self.folder / "raw", CHIP)

    def collect(self, chip: SimulatedChip, name: str) -> int:
        """Enter the chip into ISPyB as a beamline does, as a new group; returns its id."""
        with self.engine("ispyb") as engine:
            return enter_chip(engine, chip, CHIP.model_copy(update={"name": name})).group_id

    def processing(self, group_id: int) -> Processing | None:
        """What the ledger says of a group."""
        with self.engine("ssx") as engine:
            return next(iter(Ledger(engine).processings(data_collection_group_id=group_id)), None)

    def folder_of(self, group_id: int) -> Path:
        """Where the results of a group go."""
        return self.folder / "processing" / f"group-{group_id}"

    def wait_for_result(self, group_id: int, patience_s: float) -> Processing:
        """Wait until a group is processed, and nobody works on it any more.

        Raises
        ------
        StackError
            It is not in time.
        """
        try:
            wait_until(
                lambda: self.is_done(group_id), f"group {group_id} has no result", patience_s=patience_s
            )
        except StackError as error:
            known = self.processing(group_id)
            logs = "\n".join(last_lines(program.log) for program in (self.watcher, self.worker))
            raise StackError(f"{error}; the ledger: {known}; runs: {self.states()}\n{logs}") from None
        found = self.processing(group_id)
        if found is None:
            raise StackError(f"group {group_id} is gone from the ledger")
        return found

    def is_done(self, group_id: int) -> bool:
        """Whether a group is processed, and nobody works on it any more."""
        with self.engine("ssx") as engine:
            ledger = Ledger(engine)
            found = ledger.processings(data_collection_group_id=group_id)
            return bool(found) and found[0].status.has_result and not ledger.claims.held(key=found[0].key)

    def states(self) -> list[str]:
        """Names of runs with their states."""
        return [f"{run['name']}: {run['state_name']} {run['state']['message'] or ''}" for run in self.runs()]

    def _program(self, name: str, command: list[str], is_up: Callable[[], bool] = lambda: True) -> Program:
        log = self.folder / f"{name.lower().replace(' ', '-')}.log"
        return Program(name, command, self.environment, log, is_up)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        shipped = unit_environment()
        del shipped["SSX_SETTINGS_FILE"]
        auth = ":".join(self.account)
        ours = {
            "SSX_ISPYB_URL": self.address("ispyb"),
            "SSX_LEDGER_URL": self.address("ssx"),
            "SSX_DATA_HOME": str(self.folder),
            "SSX_PROCESSING_FOLDER": f"{self.folder}/processing/group-{{group_id}}",
            "SSX_SAMPLES_FOLDER": f"{self.folder}/processing/group-{{group_id}}/sample",
            "SSX_PROCESSING": json.dumps({"frames_per_chunk": 10, "calibration": {"n_frames": 40}}),
            "SSX_LAUNCH": "deployment",
            "SSX_POLL_INTERVAL_S": "2",
            "SSX_GROUP_ATTEMPTS": "5",
            "SSX_CLAIM_TIMEOUT_S": "15",
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_PORT": self.api.split(":")[2].removesuffix("/api"),
            "PREFECT_SERVER_API_AUTH_STRING": auth,
            "PREFECT_API_AUTH_STRING": auth,
            "PREFECT_API_DATABASE_CONNECTION_URL": prefects_url(self.folder / "pg"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        return kept | shipped | ours
