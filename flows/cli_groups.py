"""``ssx groups``: what is merged together, across collections, samples and sessions. Needs no Prefect."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_options import say
from ispyb_io.records import Relation
from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from flows.databases import Databases

groups_app = typer.Typer(help="Processing groups: what is merged together, and what is not and why.")

Name = Annotated[str, typer.Argument(help="Name of a group, or its number.", metavar="NAME|NUMBER")]
Collections = Annotated[
    list[int] | None, typer.Option("--collection", help="dataCollectionId; may be repeated.", metavar="ID")
]
Groups = Annotated[
    list[int] | None,
    typer.Option(
        "--group", help="dataCollectionGroupId: all its collections; may be repeated.", metavar="ID"
    ),
]
Samples = Annotated[
    list[int] | None,
    typer.Option("--sample", help="blSampleId: all its collections; may be repeated.", metavar="ID"),
]


@groups_app.callback(invoke_without_command=True)
def list_groups(context: typer.Context) -> None:
    """List the groups; with a command, do that."""
    if context.invoked_subcommand is not None:
        return
    from flows.console_groups import print_groups
    from flows.databases import open_databases
    from flows.settings import SiteSettings

    with open_databases(SiteSettings()) as databases:
        groups = databases.ledger.groups()
        print_groups(groups, {group.group_id: databases.ledger.members(group.group_id) for group in groups})


@groups_app.command()
def show(name: Name) -> None:
    """Show a group: its members, their samples and visits, who is excluded and why."""
    from flows.databases import open_databases
    from flows.group_names import group_named
    from flows.settings import SiteSettings

    with open_databases(SiteSettings()) as databases:
        _show(group_named(name, databases.ledger).group_id, databases)


@groups_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Of the new group, e.g. lyso-dark.")],
    collection: Collections = None,
    group: Groups = None,
    sample: Samples = None,
    rule: Annotated[Relation | None, typer.Option(help="Also what is related to the group --of.")] = None,
    of: Annotated[int | None, typer.Option(help="dataCollectionGroupId that the rule starts from.")] = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="Proposal that the group is of.", metavar="PROPOSAL")
    ] = None,
) -> None:
    """Make a group of collections, groups and samples, by hand or by a rule that later ones follow."""
    from flows.databases import open_databases
    from flows.group_members import Choice, create_group
    from flows.settings import SiteSettings
    from ispyb_io.ledger_records import Rule

    if (rule is None) != (of is None):
        raise SettingsError("--rule and --of go together: --rule same-sample --of 5")
    made_by = None if rule is None or of is None else Rule(relation=rule, data_collection_group_id=of)
    choice = Choice(tuple(collection or ()), tuple(group or ()), tuple(sample or ()))
    site = SiteSettings()
    with open_databases(site) as databases:
        made = create_group(name, choice, made_by, databases, site, for_)
        _show(made.group_id, databases)
    say(f"merge it: ssx merge {name!r}" if " " in name else f"merge it: ssx merge {name}")


@groups_app.command()
def include(
    name: Name,
    collection: Collections = None,
    group: Groups = None,
    sample: Samples = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
) -> None:
    """Put data collections into a group, or take back those that were excluded."""
    _change(name, (collection, group, sample), included=True, reason=reason)


@groups_app.command()
def exclude(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; kept with every result.")],
    collection: Collections = None,
    group: Groups = None,
    sample: Samples = None,
) -> None:
    """Keep data collections out of a group: they are neither processed nor merged in it any more."""
    _change(name, (collection, group, sample), included=False, reason=reason)


@groups_app.command()
def history(name: Name) -> None:
    """Show who was included or excluded, when, by whom and why."""
    from flows.console_groups import print_history
    from flows.databases import open_databases
    from flows.group_names import group_named
    from flows.settings import SiteSettings

    with open_databases(SiteSettings()) as databases:
        print_history(databases.ledger.history(group_named(name, databases.ledger).group_id))


def _change(
    name: str,
    chosen: tuple[list[int] | None, list[int] | None, list[int] | None],
    *,
    included: bool,
    reason: str,
) -> None:
    from flows.databases import open_databases
    from flows.group_members import Choice, change_members
    from flows.group_names import group_named
    from flows.settings import SiteSettings

    if not included and not reason.strip():
        raise SettingsError("--reason: say why, for those who look at the result later")
    choice = Choice(*(tuple(ids or ()) for ids in chosen))
    site = SiteSettings()
    with open_databases(site) as databases:
        group = group_named(name, databases.ledger)
        change_members(group, choice, databases, site, included=included, reason=reason)
        _show(group.group_id, databases)
    of_ispyb = group.data_collection_group_id
    again = f"ssx process --group {of_ispyb}" if of_ispyb is not None else f"ssx merge {group.name!r}"
    say(f"results stay as they are until: {again}")


def _show(group_id: int, databases: "Databases") -> None:
    from flows.console_groups import print_group
    from flows.group_names import group_named

    group, members = group_named(group_id, databases.ledger), databases.ledger.members(group_id)
    ids = [member.data_collection_id for member in members]
    collected = databases.ispyb.groups_with(data_collection_ids=ids) if databases.ispyb else []
    print_group(group, members, collected)
