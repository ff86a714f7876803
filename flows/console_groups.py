"""Tables of processing groups."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import print_lines
from ispyb_io.ledger_records import Member, MembershipChange, ProcessingGroup
from ispyb_io.records import DataCollectionGroup


def print_groups(groups: Sequence[ProcessingGroup], members: Mapping[int, Sequence[Member]]) -> None:
    """Print the groups of the ledger, with how many members each has."""
    if not groups:
        print_lines(Console(), ["no processing groups yet; ssx groups create makes one, ssx process another"])
        return
    table = Table("number", "name", "kind", "proposal", "members", "made by", "on")
    for group in groups:
        out = sum(not member.included for member in members[group.group_id])
        n = f"{len(members[group.group_id]) - out}" + (f", {out} excluded" if out else "")
        made = f"{group.created_at:%Y-%m-%d}"
        number = str(group.group_id)
        table.add_row(number, Text(group.name), group.kind, group.proposal, n, group.created_by, made)
    Console().print(table)


def print_group(
    group: ProcessingGroup, members: Sequence[Member], collected: Sequence[DataCollectionGroup]
) -> None:
    """Print a group and its members, with what ISPyB says of them."""
    title = f"{group.name} ({group.kind}, {group.proposal}, number {group.group_id})"
    table = Table("collection", "group", "sample", "protein", "visit", "member", "reason", title=Text(title))
    of = {c.data_collection_id: g for g in collected for c in g.data_collections}
    for member in members:
        found = of.get(member.data_collection_id)
        sample = found.sample if found else None
        table.add_row(
            str(member.data_collection_id),
            str(found.group_id) if found else "not in ISPyB",
            Text(sample.name if sample else ""),
            Text(sample.protein_acronym if sample else ""),
            f"{found.proposal}-{found.visit_number} {found.beamline}" if found else "",
            "included" if member.included else Text("excluded", style="bold"),
            Text(member.reason),
        )
    Console().print(table)
    if group.rule is not None:
        rule = f"rule: {group.rule.relation} as group {group.rule.data_collection_group_id}"
        print_lines(Console(), [rule])


def print_history(changes: Sequence[MembershipChange]) -> None:
    """Print all changes of the members of a group."""
    table = Table("when", "who", "collection", "from then on", "reason")
    for change in changes:
        member = change.member
        state = "included" if member.included else "excluded"
        when, id_ = f"{change.changed_at}", str(member.data_collection_id)
        table.add_row(when, change.changed_by, id_, state, Text(member.reason))
    Console().print(table)
