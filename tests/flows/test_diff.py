"""What differs between two results."""

import json
import os

import pytest

from flows.databases import open_databases
from flows.diff import compared_result, difference
from flows.merge import MergeRequest, run_merge
from flows.settings import SiteSettings
from ssx_processing.errors import SettingsError
from tests.command_line import ssx
from tests.flows.conftest import ProcessedSite


def test_two_merges_of_a_group_are_compared_by_their_keys(processed: ProcessedSite):
    run_merge(MergeRequest(group_id=processed.group_id, settings={"merging": {"d_min": 3.0}}))
    with open_databases(SiteSettings()) as databases:
        first, second = (processing.key for processing in databases.ledger.processings())
        one, other = (compared_result(key[:8], None, None, databases) for key in (first, second))
        found = difference(one, other)
        with pytest.raises(SettingsError, match="abcdabcd: no result has such a key"):
            compared_result("abcdabcd", None, None, databases)
    assert found.settings == ("merging.d_min: None -> 3.0",)
    assert found.versions == ()
    assert found.chunks == ("8 chunks are the same in both",)
    figures = {name: values for name, *values in found.figures}
    assert figures["d_min"][1] == "3"
    assert float(figures["d_min"][0]) < 3
    assert figures["frame_hits"] == ["40", "40"]
    assert found.shells == ()
    environment = {name: value for name, value in os.environ.items() if name.startswith("SSX_")}
    shown = ssx("diff", first[:8], str(processed.group_id), cwd=processed.folder, **environment)
    assert shown.returncode == 0, shown.stderr
    assert "setting: merging.d_min: None -> 3.0" in shown.stdout
    same = ssx("diff", first[:8], first[:8], "--json", cwd=processed.folder, **environment)
    assert json.loads(same.stdout)["settings"] == []
    assert len(json.loads(same.stdout)["shells"]) == len(one.merge.shells)
