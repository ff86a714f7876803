"""Who is in a processing group: chosen by hand from collections, groups and samples, or found by its rule."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from flows.databases import Databases
from flows.group_names import check_name
from flows.permissions import NotAllowedError, check_across, is_own
from flows.provenance import user_name
from flows.settings import SiteSettings
from ispyb_io.ledger_records import GroupKind, Member, ProcessingGroup, Rule
from ispyb_io.protocol import NotFoundError
from ispyb_io.records import DataCollectionGroup
from ssx_processing.errors import SettingsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Ids of ISPyB that a person names; a group or sample stands for all its data collections."""

    collections: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.collections or self.groups or self.samples)


@dataclass(frozen=True)
class Found:
    """What a choice or a rule comes to."""

    groups: tuple[DataCollectionGroup, ...]
    collection_ids: tuple[int, ...]

    @property
    def proposals(self) -> set[str]:
        """Of the data collections."""
        return {group.proposal for group in self.groups}


def create_group(
    name: str,
    choice: Choice,
    rule: Rule | None,
    databases: Databases,
    site: SiteSettings,
    proposal: str | None = None,
) -> ProcessingGroup:
    """Make a group in the ledger; its proposal is the one given, else that of its members.

    Raises
    ------
    SettingsError
        The name cannot be used, nothing is chosen, or it is not clear which proposal the group is of.
    NotAllowedError
        Members are of other proposals than the site lets be processed together.
    """
    check_name(name)
    if not choice and rule is None:
        raise SettingsError("name the members: --collection, --group, --sample, or --rule with --of")
    found = find_chosen(choice, databases, site)
    home = databases.group(rule.data_collection_group_id, site) if rule else None
    proposals = found.proposals | ({home.proposal} if home else set())
    if proposal is None and len(proposals) > 1:
        names = ", ".join(sorted(proposals))
        raise SettingsError(
            f"the members are of several proposals ({names}); give --for PROPOSAL, one of them"
        )
    own = proposal or proposals.pop()
    check_across(site, own, proposals)
    if any(group.name == name for group in databases.ledger.groups(own)):
        raise SettingsError(f"{own} has a group {name} already; ssx groups include adds to it")
    if home is not None and rule is not None:
        # before anything is entered
        databases.require_ispyb().related_groups(home.group_id, rule.relation, site.experiment_types)
    kind = GroupKind.CHOSEN if rule is None else GroupKind.RULE
    group = databases.ledger.ensure_group(own, name, kind=kind, rule=rule, created_by=user_name())
    databases.ledger.add_members(group.group_id, found.collection_ids, changed_by=user_name())
    add_by_rule(group, databases, site)
    return group


def find_chosen(choice: Choice, databases: Databases, site: SiteSettings) -> Found:
    """Data collections that a choice names, as far as this command may see them.

    Raises
    ------
    NotFoundError
        One of its ids is not in ISPyB, or in another proposal than that to which the command is bound.
    """
    if not choice:
        return Found((), ())
    ispyb = databases.require_ispyb()
    groups = [databases.group(id_, site) for id_ in choice.groups]
    groups += ispyb.groups_with(data_collection_ids=choice.collections, sample_ids=choice.samples)
    by_id = {group.group_id: group for group in groups if is_own(site, group.proposal)}
    chosen: set[int] = set()
    for group in by_id.values():
        is_whole = group.group_id in choice.groups or _sample_id(group) in choice.samples
        ids = {collection.data_collection_id for collection in group.data_collections}
        chosen |= ids if is_whole else ids & set(choice.collections)
    _refuse_missing("data collection", set(choice.collections) - chosen)
    _refuse_missing("sample with data", set(choice.samples) - {_sample_id(g) for g in by_id.values()})
    return Found(tuple(by_id.values()), tuple(sorted(chosen)))


def change_members(
    group: ProcessingGroup,
    choice: Choice,
    databases: Databases,
    site: SiteSettings,
    *,
    included: bool,
    reason: str = "",
) -> tuple[int, ...]:
    """Include or exclude what is chosen; the history keeps who, when and why.

    Raises
    ------
    SettingsError
        Nothing is chosen, something is excluded that is no member, or a collected group shall take in others.
    NotAllowedError
        What is included is of another proposal than the site lets be processed together.
    """
    if not choice:
        raise SettingsError("say which: --collection, --group or --sample")
    found = find_chosen(choice, databases, site)
    members = {member.data_collection_id for member in databases.ledger.members(group.group_id)}
    members |= _of_collected(group, databases, site)
    strangers = sorted(set(found.collection_ids) - members)
    if strangers and not (included and group.kind is not GroupKind.COLLECTED):
        why = "is what ISPyB says; make a group of your own" if included else "has no such member"
        raise SettingsError(f"data collection {', '.join(map(str, strangers))}: the group {group.name} {why}")
    if included:
        check_across(site, group.proposal, found.proposals)
    changed = [
        Member(data_collection_id=id_, included=included, reason=reason) for id_ in found.collection_ids
    ]
    databases.ledger.set_members(group.group_id, changed, changed_by=user_name())
    return found.collection_ids


def add_by_rule(group: ProcessingGroup, databases: Databases, site: SiteSettings) -> list[int]:
    """Let those join that the group's rule finds now; returns them.

    Groups of proposals that may not be processed together with the group's own are passed over.
    """
    if group.rule is None:
        return []
    related = databases.require_ispyb().related_groups(
        group.rule.data_collection_group_id, group.rule.relation, site.experiment_types
    )
    ids = [
        collection.data_collection_id
        for found in related
        if _may_join(group, found, site)
        for collection in found.data_collections
    ]
    reason = f"{group.rule.relation} as group {group.rule.data_collection_group_id}"
    new = databases.ledger.add_members(group.group_id, ids, changed_by=user_name(), reason=reason)
    if new:
        logger.info(
            "data collection %s joined the group %s by its rule", ", ".join(map(str, new)), group.name
        )
    return new


def _may_join(group: ProcessingGroup, found: DataCollectionGroup, site: SiteSettings) -> bool:
    try:
        check_across(site, group.proposal, {found.proposal})
    except NotAllowedError:
        return False
    return is_own(site, found.proposal)


def _of_collected(group: ProcessingGroup, databases: Databases, site: SiteSettings) -> set[int]:
    """Data collections that ISPyB has in a collected group, also those not processed yet."""
    if group.data_collection_group_id is None:
        return set()
    collected = databases.group(group.data_collection_group_id, site)
    return {collection.data_collection_id for collection in collected.data_collections}


def _sample_id(group: DataCollectionGroup) -> int | None:
    return group.sample.sample_id if group.sample else None


def _refuse_missing(what: str, ids: Iterable[int]) -> None:
    if missing := sorted(ids):
        raise NotFoundError(f"there is no {what} {', '.join(map(str, missing))} in ISPyB")
