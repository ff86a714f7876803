"""Merging again as a Prefect flow, where there is a Prefect server to show it."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.merge import MergeRequest, merge_result
from flows.merge_form import MergeForm
from flows.outcome import Outcome
from flows.process import final_state, result_of
from flows.settings import SiteSettings
from flows.tasks import LAST_STEPS


@flow(name="merge", flow_run_name="{request.title}", persist_result=False)
def merge(request: MergeRequest) -> State[Outcome]:
    """Merge the chunks of the last processing of a group or folder with other settings."""
    return final_state(merge_result(request, LAST_STEPS), SiteSettings())


@flow(name="merge-group", flow_run_name="merge of {form.group}", persist_result=False)
def merge_group(form: MergeForm) -> State[Outcome]:
    """Merge a processed group again with other settings; no image is read."""
    return final_state(merge_result(form.request(), LAST_STEPS), SiteSettings())


def run_merge_flow(request: MergeRequest) -> Outcome:
    """Run the flow; raises what stopped it."""
    return result_of(merge(request, return_state=True))
