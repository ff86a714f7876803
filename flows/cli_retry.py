"""``ssx retry``: the failed chunks of a result once more."""

import typer

from flows.cli_input import parse_result
from flows.cli_options import Result, Workers, say, start

retry_app = typer.Typer()


@retry_app.command("retry")
def retry_(result: Result, workers: Workers = None) -> None:
    """Process the failed chunks of a result once more, and merge."""
    site = start(workers)
    from flows.databases import open_databases, processing_of
    from flows.retry import failed_chunks, request_again

    group_id, folder = parse_result(result)
    with open_databases(site, folder, create=folder is None) as databases:
        last = processing_of(databases.ledger, group_id, folder)
        failed = failed_chunks(last, databases)
        request = request_again(last, databases) if failed else None
    if request is None:
        say(f"{last.folder}: no chunk has failed, nothing is done again")
        return
    for chunk in failed:
        say(f"again: chunk {chunk.index + 1} (images {chunk.images}): {chunk.message}")
    from flows.console import print_outcome
    from flows.process import run_process
    from flows.unfinished import unfinished_shown

    with unfinished_shown():
        print_outcome(run_process(request, site))
