"""Register pool, queues, deployments and automations with a Prefect server; may be repeated.

PREFECT_API_URL=http://127.0.0.1:4200/api .venv/bin/python deployments/register.py
"""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

HERE = Path(__file__).parent
POOL = "ssx"
QUEUES = {"live": 1, "offline": 2}
"""Name to priority: live work goes before offline work."""


def main() -> None:
    """Make what is missing, bring up to date what is there."""
    if "PREFECT_API_URL" not in os.environ:
        sys.exit("PREFECT_API_URL: not set; set it to the Prefect server's, e.g. http://127.0.0.1:4200/api")
    with get_client(sync_client=True) as client:
        make_pool(client)
        for automation in yaml.safe_load((HERE / "automations.yaml").read_text())["automations"]:
            put_automation(client, AutomationCore.model_validate(automation))
    command = [Path(sys.executable).parent / "prefect", "--no-prompt", "deploy", "--all"]
    root, prefect_file = HERE.parent, HERE / "prefect.yaml"
    sys.exit(subprocess.run([*command, "--prefect-file", prefect_file], cwd=root, check=False).returncode)  # noqa: S603


def make_pool(client: SyncPrefectClient) -> None:
    """Make the work pool and its queues, if they are not there."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    there = {queue.name for queue in client.read_work_queues(work_pool_name=POOL)}
    for name, priority in QUEUES.items():
        if name not in there:
            client.create_work_queue(name, priority=priority, work_pool_name=POOL)


def put_automation(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Make it, in the place of one with its name."""
    for former in client.read_automations_by_name(automation.name):
        client.delete_automation(former.id)
    client.create_automation(automation)


if __name__ == "__main__":
    main()
