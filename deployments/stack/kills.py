"""Parts killed at random moments: afterwards there are the files and rows of an undisturbed run.

Two groups with the same images are processed undisturbed. What is the same in both, file by file and column
by column, must be so in every other group, whatever was killed while it was processed.
"""

import hashlib
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, select

from deployments.stack.acceptance import PATIENCE_S, Check
from deployments.stack.machine import DATABASES, Machine
from deployments.stack.programs import Program, StackError, children, command_line, wait_until
from ssx_processing.simulation.chip import SimulatedChip

OF_A_RUN = "-m prefect.engine"
"""Stands in the command of the process of a flow run."""
RESTART_S = 1.0
"""systemd waits 10."""
FEWEST_SECONDS = 5.0
LOOKS_EVERY_S = 0.05
COLLECTION = r"collection-\d+"
"""Folder of a data collection, named after its id in ISPyB."""
MOST_SAID = 5
OF_ATTEMPTS = ("SsxClaim", "SsxChunkWork", "attempts", "chunks_reused", "reused", "chunks_read")
"""Tables, columns and values that tell of attempts, which a killed run has more of."""

Tables = Mapping[str, list[dict[str, str]]]
"""Rows of each table, all values as texts."""


@dataclass(frozen=True)
class Left:
    """What a group has left behind."""

    files: Mapping[str, bytes]
    rows: Tables
    seconds: float


def killed_at_random_moments(machine: Machine, chip: SimulatedChip, n: int, seed: int) -> list[Check]:
    """Kill something once in each of so many groups, and compare what they leave."""
    first, second = (_processed(machine, chip, f"undisturbed {i}") for i in (1, 2))
    same = Undisturbed(first, second)
    rng = random.Random(seed)  # noqa: S311
    parts = victims(machine)
    order = [name for _ in range(-(-n // len(parts))) for name in rng.sample(list(parts), len(parts))][:n]
    checks = []
    for i, name in enumerate(order, start=1):
        moment = rng.uniform(0, max(first.seconds, FEWEST_SECONDS))
        what = f"{i}: {name} killed after {moment:.1f} s"
        machine.tell(f"{what} (of {n})")
        blow = Blow(moment, parts[name])
        try:
            left = _processed(machine, chip, f"killed {i}", blow)
        except StackError as error:
            checks.append(Check(what, False, str(error)))
            continue
        differences = same.differences(left)
        well = f"as ever, {left.seconds:.0f} s{'' if blow.has_hit else '; there was none then'}"
        checks.append(Check(what, not differences, "; ".join(differences) or well))
    return checks


@dataclass
class Blow:
    """A kill at a moment."""

    moment_s: float
    kill: Callable[[], bool]
    """Whether there was something to kill."""
    has_hit: bool = False

    def strike(self, is_over: Callable[[], bool]) -> None:
        """Wait, and kill; if there is nothing yet to be killed, as soon as there is."""
        time.sleep(self.moment_s)
        self.has_hit = self.kill()
        while not (self.has_hit or is_over()):
            time.sleep(LOOKS_EVERY_S)
            self.has_hit = self.kill()


def victims(machine: Machine) -> dict[str, Callable[[], bool]]:
    """What can be killed, by name; a program that was killed is started again."""

    def again(program: Program) -> bool:
        program.kill()
        time.sleep(RESTART_S)
        program.start()
        return True

    return {
        "the worker of a chunk": lambda: _kill_last(_chunk_workers(machine)),
        "the flow": lambda: _kill_last(_flows(machine)),
        "the watcher": lambda: again(machine.watcher),
        "Prefect's server": lambda: again(machine.server),
        "PostgreSQL": lambda: again(machine.postgresql),
        "MariaDB": lambda: again(machine.mariadb),
        "Prefect's worker": lambda: again(machine.worker),
        "Prefect's worker with the flow": lambda: _kill_last(_flows(machine)) and again(machine.worker),
    }


def _kill_last(pids: list[int]) -> bool:
    """Kill the last of them; False if there is none."""
    if not pids:
        return False
    try:
        os.kill(pids[-1], signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _flows(machine: Machine) -> list[int]:
    worker = machine.worker.process
    found = children(worker.pid) if worker else []
    return [pid for pid in found if OF_A_RUN in command_line(pid)]


def _chunk_workers(machine: Machine) -> list[int]:
    """Processes forked by the fork server of a flow; the last are workers."""
    return [
        worker
        for flow in _flows(machine)
        for server in children(flow)
        if "forkserver" in command_line(server)
        for worker in children(server)
    ]


def _processed(machine: Machine, chip: SimulatedChip, name: str, blow: Blow | None = None) -> Left:
    """Have a group processed, disturb that, and gather what it leaves."""
    before = _tables(machine)
    start = time.monotonic()
    group_id = machine.collect(chip, name)
    if blow is not None:
        blow.strike(lambda: machine.is_done(group_id))
    done = machine.wait_for_result(group_id, PATIENCE_S)
    seconds = time.monotonic() - start
    wait_until(lambda: not _flows(machine), f"a flow of group {group_id} does not end")
    folder = machine.folder_of(group_id)
    places = {str(folder): "FOLDER", done.key: "KEY", name: "NAME"}
    return Left(dict(_files(folder)), dict(_new_rows(before, _tables(machine), places)), seconds)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file; of JSON, each value by itself, as some of them are times."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        name = re.sub(COLLECTION, "collection", str(path.relative_to(folder)))
        if path.parent.name == "prepared":  # named after where the chunk lies
            yield f"prepared/{hashlib.sha256(content).hexdigest()[:8]}", content
        elif path.suffix == ".json":
            text = re.sub(COLLECTION, "collection", content.decode().replace(str(folder), "FOLDER"))
            yield from ((f"{name}{where}", value.encode()) for where, value in _values(json.loads(text)))
        else:
            yield name, content


def _values(content: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Values of a JSON document with the way to each."""
    if isinstance(content, dict | list) and content:
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        for name, part in parts:
            if name not in OF_ATTEMPTS:
                yield from _values(part, f"{where} {name}")
    else:
        yield where, repr(content)


def _tables(machine: Machine) -> Tables:
    """All rows of ISPyB and of the ledger, as dictionaries of texts."""
    found = {}
    for database in DATABASES:
        with machine.engine(database) as engine, engine.connect() as connection:
            content = MetaData()
            content.reflect(engine)
            for table in content.sorted_tables:
                rows = connection.execute(select(table)).mappings()
                found[table.name] = [{name: str(value) for name, value in row.items()} for row in rows]
    return found


def _new_rows(
    before: Tables,
    after: Tables,
    places: Mapping[str, str],
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Rows of each table that were not there before, without what belongs to this group alone."""
    for name, rows in after.items():
        if name in OF_ATTEMPTS:
            continue
        known = Counter(tuple(row.items()) for row in before.get(name, []))
        new = [dict(row) for row in (Counter(tuple(row.items()) for row in rows) - known).elements()]
        for row in new:
            for column, value in row.items():
                for own, word in places.items():
                    value = value.replace(own, word)
                row[column] = re.sub(COLLECTION, "collection", value)
        yield name, new


class Undisturbed:
    """What two undisturbed groups have in common."""

    def __init__(self, first: Left, second: Left) -> None:
        self._first = first
        varying = {_kind(name) for name, content in first.files.items() if second.files.get(name) != content}
        self._same_files = {name for name in first.files if _kind(name) not in varying}
        self._columns = {
            name: [
                column
                for column in (rows[0] if rows else {})
                if column not in OF_ATTEMPTS and in_order(rows, column) == in_order(second.rows[name], column)
            ]
            for name, rows in first.rows.items()
        }
        if differences := self.differences(second):
            raise StackError(f"two undisturbed groups differ: {'; '.join(differences)}")

    def differences(self, left: Left) -> list[str]:
        """What another group has else, in a few words each."""
        found = [*self._of_files(left.files), *self._of_rows(left.rows)]
        more = [f"and {len(found) - MOST_SAID} more"] if len(found) > MOST_SAID else []
        return found[:MOST_SAID] + more

    def _of_files(self, files: Mapping[str, bytes]) -> Iterator[str]:
        first = self._first.files
        yield from (f"no file {name}" for name in sorted(first.keys() - files.keys()))
        yield from (f"file {name}, which others have not" for name in sorted(files.keys() - first.keys()))
        other = (name for name in sorted(self._same_files & files.keys()) if files[name] != first[name])
        yield from (f"file {name} has other content" for name in other)

    def _of_rows(self, tables: Tables) -> Iterator[str]:
        for table, rows in self._first.rows.items():
            others = tables.get(table, [])
            if len(rows) != len(others):
                yield f"{table}: {len(others)} rows, not {len(rows)}"
                continue
            for column in self._columns[table]:
                pairs = zip(in_order(rows, column), in_order(others, column), strict=True)
                yield from (f"{table}.{column}: {its!r}, not {ours!r}" for ours, its in pairs if ours != its)


def _kind(name: str) -> str:
    """Name without keys and numbers: what varies in one chunk may vary in each."""
    return re.sub("[0-9a-f]{16}|[0-9]+", "*", name)


def in_order(rows: Sequence[Mapping[str, str]], column: str) -> list[str]:
    """Values of a column, sorted."""
    return sorted(row[column] for row in rows)
