"""The ``watch`` flow: one look into ISPyB, and a ``process`` flow for each group that is ready.

What is true is in ISPyB and in the ledger, never in the watcher: it may be killed at any time, and
several may run.
"""

import datetime
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

import httpx
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.states import Completed, Failed

from flows.databases import open_databases
from flows.delivery_thread import deliver_now
from flows.expected_work import ConfirmationNeededError
from flows.folder_lock import BusyError
from flows.job import ProcessRequest
from flows.job_look import JobLook
from flows.last_look import keep_last_look
from flows.looks import (
    GroupLook,
    UnfinishedGroupsError,
    Verdict,
    look_at_groups,
    raise_if_failed,
    tally,
)
from flows.messages import one_line
from flows.prefect_server import start_embedded_server
from flows.process import result_of, run_process
from flows.settings import SiteSettings
from flows.wake import Wake
from ispyb_io.protocol import UnavailableError

logger = logging.getLogger(__name__)


@flow(name="watch", flow_run_name="look into ISPyB", persist_result=False)
def watch(most: int | None = None) -> State[list[GroupLook]]:
    """Look once; process what is ready; say what is done, waiting or failed.

    Parameters
    ----------
    most
        Process at most so many groups, and leave what is asked for in ISPyB to the caller; by default as many
        groups as the site allows in one look, then that.
    """
    site = SiteSettings()
    looks = take_up(look_around(site), site, most)
    jobs = take_up_jobs(site) if most is None else []
    for job in jobs:
        logger.info("%s", job.line)
    try:
        raise_if_failed(looks)
    except UnfinishedGroupsError as error:
        return Failed(message=str(error), data=error)
    if failed := [job.line for job in jobs if job.has_failed]:
        return Failed(message="; ".join(failed))
    return Completed(message=tally(looks), data=looks)


def take_up(looks: Sequence[GroupLook], site: SiteSettings, most: int | None) -> list[GroupLook]:
    """Process what is ready, or have it processed."""
    taken_up = in_order(looks)[: most or site.groups_per_look]
    processed = {look.group_id: process_ready(look, site) for look in taken_up}
    return [processed.get(look.group_id, look) for look in looks]


def take_up_jobs(site: SiteSettings) -> list[JobLook]:
    """Carry out what somebody asks for in ISPyB, or have it done."""
    from flows.asked_jobs import answer_job, unclaimed_jobs, waiting_jobs

    if site.launch == "here":
        return [JobLook.of(job.job_id, answer_job(job, site)) for job in waiting_jobs(site)]
    from flows.launch import launch_job

    lost_after_s = 2 * site.claim_timeout_s
    return [
        JobLook(job.job_id, launch_job(job.job_id, lost_after_s=lost_after_s)) for job in unclaimed_jobs(site)
    ]


def in_order(looks: Sequence[GroupLook]) -> list[GroupLook]:
    """Groups that are ready: first those still being collected, then the newest."""
    ready = [look for look in looks if look.verdict is Verdict.READY]
    return sorted(ready, key=lambda look: (not look.is_live, -look.group_id))


def run_watch(site: SiteSettings, most: int | None = None) -> list[GroupLook]:
    """Look once; a flow runs only if a group is ready, and is to be processed here.

    Raises
    ------
    UnfinishedGroupsError
        A group did not end well.
    """
    looks = look_around(site)
    if site.launch == "deployment":
        looks = take_up(looks, site, most)
    elif any(look.verdict is Verdict.READY for look in looks):
        start_embedded_server()
        return result_of(watch(most or site.groups_per_look, return_state=True))
    raise_if_failed(looks)
    return looks


def look_around(site: SiteSettings) -> list[GroupLook]:
    """Deliver to ISPyB what it could not take before, then look at its groups."""
    with open_databases(site) as databases:
        deliver_now(databases)
        looks = list(look_at_groups(site, databases))
    keep_last_look(looks, site)
    return looks


def watch_for_ever(
    site: SiteSettings,
    show: Callable[[list[GroupLook]], None],
    show_jobs: Callable[[list[JobLook]], None],
    wake: Wake,
    tell: Callable[[str], None] = lambda line: None,
) -> NoReturn:
    """Look every poll interval, or when woken; only news is shown.

    Where groups are processed here, one is between two looks: a collection that begins meanwhile comes before
    what is older.

    Parameters
    ----------
    tell
        Told what is being done.
    """
    shown: list[GroupLook] = []
    is_here = site.launch == "here"
    while True:
        tell("looking into ISPyB")
        try:
            looks = run_watch(site, most=1 if is_here else None)
        except UnfinishedGroupsError as error:
            looks = error.looks
        except UnavailableError as error:
            logger.warning("%s", error)
            looks = shown
        show([look for look in looks if look not in shown])
        shown, wake.last_look = looks, datetime.datetime.now()
        if not is_here or not any(look.verdict is Verdict.READY for look in looks):
            show_jobs(_jobs_as_far_as_possible(site))
            tell(f"{tally(looks)}; looked at {wake.last_look:%H:%M:%S}")
            wake.sleep(site.poll_interval_s)


def _jobs_as_far_as_possible(site: SiteSettings) -> list[JobLook]:
    try:
        return take_up_jobs(site)
    except (UnavailableError, httpx.HTTPError, PrefectException) as error:  # at the next look
        logger.warning("jobs of ISPyB: %s", one_line(error))
        return []


def process_ready(look: GroupLook, site: SiteSettings) -> GroupLook:
    """Run the ``process`` flow for a group; an error is this group's, the others go on."""
    if site.launch == "deployment":
        return launched(look, site)
    request = ProcessRequest(group_id=look.group_id, automatic=True)
    try:
        outcome = run_process(request, site)
    except (BusyError, ConfirmationNeededError) as error:  # somebody began it since the look, or must
        return GroupLook(look.group_id, Verdict.WAITING, str(error), look.folder)
    except Exception as error:  # whatever it is, the flow has recorded it, and others wait
        return GroupLook(look.group_id, Verdict.FAILED, one_line(error), look.folder)
    verdict = Verdict.WAITING if outcome.goes_on else Verdict.PROCESSED
    return GroupLook(look.group_id, verdict, outcome.message, outcome.folder)


def launched(look: GroupLook, site: SiteSettings) -> GroupLook:
    """Let a worker run the ``process`` flow for a group."""
    from flows.launch import launch_group

    attempt = f"{look.detail}, attempt {look.attempts + 1}"
    try:
        done = launch_group(look.group_id, attempt, lost_after_s=2 * site.claim_timeout_s)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:  # it is tried again at the next look
        problem = f"no run could be begun on Prefect's server: {one_line(error)}"
        return GroupLook(look.group_id, Verdict.FAILED, problem, look.folder)
    return GroupLook(look.group_id, Verdict.WAITING, done, look.folder)
