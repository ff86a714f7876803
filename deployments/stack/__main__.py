"""``python -m deployments.stack``: bring the stack up, see that it works, take it down."""

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments.stack.acceptance import Check, acceptance_run
from deployments.stack.machine import Machine
from deployments.stack.programs import StackError


def stack(
    kills: Annotated[int, typer.Option(help="Kill a part at so many random moments, a group each.")] = 0,
    seed: Annotated[int, typer.Option(help="Other moments.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Let it run until Ctrl-C, and keep its folder.")
    ] = False,
) -> None:
    """PostgreSQL, Prefect, MariaDB with an ISPyB, worker and watcher on this machine; a chip goes through."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended
    console = Console(stderr=True)
    folder = Path(tempfile.mkdtemp(prefix="ssx-stack-"))
    folder.chmod(0o755)  # PostgreSQL may be another account
    ended_well = False
    try:
        with console.status("") as status:
            machine = Machine(folder, lambda line: (status.update(line), console.log(line))[0])
            with machine:
                chip = machine.simulate()
                checks = acceptance_run(machine, chip)
                if kills:
                    from deployments.stack.kills import killed_at_random_moments

                    checks += killed_at_random_moments(machine, chip, kills, seed)
                show(checks)
                ended_well = all(check.holds for check in checks)
                if keep:
                    wait_for_ctrl_c(machine, status.stop)
    except StackError as error:
        sys.exit(f"stack: {error}\nlogs: {folder}")
    finally:
        if ended_well and not keep:
            shutil.rmtree(folder)
    if not ended_well:
        sys.exit(f"stack: not all holds; logs: {folder}")


def show(checks: list[Check]) -> None:
    """One line each."""
    table = Table("", "what must be so", "seen")
    for check in checks:
        table.add_row("[green]yes[/]" if check.holds else "[red]NO[/]", check.what, check.seen)
    Console().print(table)


def wait_for_ctrl_c(machine: Machine, stop_status: object) -> None:
    """Say where everything is, and let people look."""
    user, password = machine.account
    Console().print(
        f"Prefect UI: {machine.api.removesuffix('/api')} (account {user}:{password})\n"
        f"ISPyB: {machine.address('ispyb')}\nledger: {machine.address('ssx')}\n"
        f"folder: {machine.folder}\nCtrl-C ends it."
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    typer.run(stack)
