"""What a job is called: in the Prefect UI, and in what people are told."""

from flows.job import Job


def title_of(job: Job) -> str:
    """Proposal and visit, group, sample, e.g. "mx1234-2 group 57 lysozyme chip 7"."""
    if job.chosen is not None:
        return f"{job.chosen.proposal} {job.chosen.name}"
    if job.group is None:
        return job.name
    sample = job.group.sample.name if job.group.sample else ""
    return " ".join(part for part in (_visit(job), job.name, sample) if part)


def tags_of(job: Job, *, is_live: bool) -> list[str]:
    """What people look for: proposal, visit, beamline, protein, whether it goes on."""
    if job.chosen is not None:
        return [job.chosen.proposal]
    group = job.group
    if group is None:
        return []
    protein = group.sample.protein_acronym if group.sample else ""
    known = (group.proposal, _visit(job), group.beamline, protein, "live" if is_live else "")
    return [tag for tag in known if tag]


def _visit(job: Job) -> str:
    if job.group is None:
        return ""
    visit = job.group.visit_number
    return job.group.proposal if visit is None else f"{job.group.proposal}-{visit}"
