"""What Prometheus may ask of a site, all of it from the ledger, the outbox and the watcher's last look.

Nothing tells one proposal from another: what is collected is confidential at most places.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flows.databases import Databases, open_databases
from flows.last_look import read_last_look
from flows.outcome import LATENCY
from flows.settings import SiteSettings
from ispyb_io.ledger_totals import LedgerTotals
from ispyb_io.outbox_records import RecordState

RECENT = 100
"""Results whose latency is told."""
COUNTS = {
    "frames_total": "Frames processed, each once.",
    "frames_unreadable": "Frames that could not be read.",
    "frame_hits": "Frames with a hit.",
    "frames_indexed": "Frames with at least one indexed lattice.",
    "lattices_indexed": "Indexed lattices.",
}


class SiteMetrics(Collector):
    """Asks anew each time it is scraped."""

    def __init__(self, site: SiteSettings) -> None:
        self._site = site

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is asked when it is registered."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All metrics as they are now."""
        with open_databases(self._site) as databases:
            yield from _of_ledger(databases.ledger.totals())
            claims = databases.ledger.claims.held()
            yield _gauge("ssx_claims", "Groups that are being worked on.", len(claims))
            yield from _of_latency(databases)
            yield from _of_outbox(databases)
        yield from _of_last_look(self._site)


def registry_of(site: SiteSettings) -> CollectorRegistry:
    """For the functions of prometheus_client."""
    registry = CollectorRegistry()
    registry.register(SiteMetrics(site))
    return registry


def _of_ledger(totals: LedgerTotals) -> Iterator[GaugeMetricFamily]:
    yield _by("ssx_processings", "Processings, merges included, by status.", "status", totals.processings)
    yield _by("ssx_chunks", "Chunks by status, each once.", "status", totals.chunks)
    for name, text in COUNTS.items():
        yield _gauge(f"ssx_{name}", text, totals.counts[name])
    if totals.last_ended is not None:
        seconds = totals.last_ended.timestamp()
        yield _gauge("ssx_last_result_timestamp_seconds", "When the last processing ended.", seconds)


def _of_latency(databases: Databases) -> Iterator[GaugeMetricFamily]:
    recent = databases.ledger.recent_counts(RECENT)
    known = [counts[LATENCY] for counts in recent if LATENCY in counts]
    if known:
        text = "From the end of the collection to the recorded result"
        yield _gauge("ssx_latency_last_seconds", f"{text}, of the newest result.", known[0])
        yield _gauge(
            "ssx_latency_mean_seconds", f"{text}, mean of the newest {RECENT}.", sum(known) / len(known)
        )


def _of_outbox(databases: Databases) -> Iterator[GaugeMetricFamily]:
    if databases.outbox is not None:
        states = (RecordState.WAITING, RecordState.REFUSED)
        numbers = {state: len(databases.outbox.records(state)) for state in states}
        yield _by("ssx_outbox_records", "Results that ISPyB does not have, by state.", "state", numbers)


def _of_last_look(site: SiteSettings) -> Iterator[GaugeMetricFamily]:
    look = read_last_look(site)
    if look is None:
        return
    yield _gauge(
        "ssx_watcher_last_look_timestamp_seconds", "When the watcher looked into ISPyB last.", look.at
    )
    yield _by("ssx_groups", "Groups in the watcher's last look, by verdict.", "verdict", look.groups)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, numbers: Mapping[Any, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, number in numbers.items():
        family.add_metric([str(key)], number)
    return family
