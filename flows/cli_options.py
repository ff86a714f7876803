"""What commands share: their options, the settings of the site, plain lines."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from flows.settings import SiteSettings

Group = Annotated[int | None, typer.Option("--group", help="dataCollectionGroupId in ISPyB.")]
Cell = Annotated[
    str | None,
    typer.Option(
        "--cell",
        help="a,b,c,alpha,beta,gamma in Å and degrees; found in the images if not given.",
        metavar="A,B,C,AL,BE,GA",
    ),
]
SpaceGroup = Annotated[
    str | None, typer.Option(help="Symbol, number or Laue class, e.g. P43212, 96 or 4/mmm.")
]
CellCluster = Annotated[
    int | None, typer.Option(help="Which of the cells found in the data; 1 is the largest.", min=1)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting that differs, e.g. spots.min_snr=4; may be repeated.", metavar="NAME=VALUE"
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Chunks processed at the same time; by default one per core.", min=1)
]
Geometry = Annotated[
    Path | None,
    typer.Option(
        help="CrystFEL's .geom or DIALS's .expt, in place of the images' own geometry.", metavar="FILE"
    ),
]
Result = Annotated[
    str, typer.Argument(help="Id of a group in ISPyB, or the folder of a result.", metavar="GROUP|FOLDER")
]

DEBUG = "SSX_DEBUG"


def start(workers: int | None) -> "SiteSettings":
    """Settings of the site; from here on Prefect may be imported."""
    if workers is not None:
        os.environ["SSX_N_WORKERS"] = str(workers)
    from flows.prefect_environment import log_from_info, prepare
    from flows.settings import SiteSettings

    site = SiteSettings()
    prepare(site.data_home / "prefect", quiet=DEBUG not in os.environ)
    log_from_info()
    return site


def bind(proposal: str) -> None:
    """Bind this command to a proposal, if the site has not bound it to another.

    Raises
    ------
    SettingsError
        It has.
    """
    from flows.settings import SiteSettings

    bound = SiteSettings().proposal
    if bound is not None and bound.lower() != proposal.lower():
        raise SettingsError(f"--proposal {proposal}: this command is bound to {bound} (SSX_PROPOSAL)")
    os.environ["SSX_PROPOSAL"] = proposal


def say(text: str) -> None:
    """Print a line as it is: paths and commands are for copying."""
    print(text)
