"""``ssx metrics``: what Prometheus may ask."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import say, start

metrics_app = typer.Typer()


@metrics_app.command("metrics")
def metrics_(
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Write them to a file, for the textfile collector of node_exporter."),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option("--serve", help="Answer GET /metrics for ever.", metavar="[HOST:]PORT"),
    ] = None,
) -> None:
    """Print metrics of the site for Prometheus: frames, hits, latency, queue, failures."""
    if file is not None and serve is not None:
        raise typer.BadParameter("give --file or --serve, not both")
    site = start(None)
    from prometheus_client import generate_latest, start_http_server, write_to_textfile

    from flows.metrics import registry_of
    from flows.wake import host_and_port

    registry = registry_of(site)
    if file is not None:
        write_to_textfile(str(file), registry)
    elif serve is not None:
        host, port = host_and_port(serve, "--serve")
        server, thread = start_http_server(port, host, registry)
        say(f"http://{host}:{server.server_port}/metrics  (end with Ctrl-C)")
        thread.join()
    else:
        typer.echo(generate_latest(registry).decode(), nl=False)
