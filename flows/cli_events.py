"""The command that shows what ISPyB's event chains say of each frame, before anything is merged."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import say

events_app = typer.Typer()


@events_app.command()
def events(
    group: Annotated[int, typer.Argument(help="dataCollectionGroupId in ISPyB.")],
    collection: Annotated[int | None, typer.Option(help="Only this dataCollectionId.", metavar="ID")] = None,
    rows: Annotated[int, typer.Option(help="Frames to list of each data collection.", min=0)] = 10,
    csv: Annotated[
        Path | None, typer.Option(help="Write the table of all frames, for merging.subset_table.")
    ] = None,
) -> None:
    """Show what the event chains of a group say of each frame: laser, delay, dose; or why they cannot."""
    from flows.cli_looking import refuse_unwritable
    from flows.console_events import print_events
    from flows.databases import open_databases
    from flows.event_chains import event_notices
    from flows.event_preview import preview_events, raise_if_refused, write_events_csv
    from flows.settings import SiteSettings

    if csv is not None:
        refuse_unwritable(csv)
    site = SiteSettings()
    with open_databases(site) as databases:
        previews = preview_events(databases.group(group, site), collection, site)
    for preview in previews:
        print_events(preview, rows)
    for notice in event_notices([preview.events for preview in previews if preview.events.table]):
        say(f"warning: {notice}")
    raise_if_refused(previews)
    if csv is not None:
        write_events_csv(previews, csv)
        say(f"use it: ssx merge {group} --set merging.subset_by=laser --set merging.subset_table={csv}")
