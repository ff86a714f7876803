"""What cannot be shown in Prefect fails nothing."""

import httpx
import pytest

from flows import artifacts
from flows.artifacts import begin_progress, publish_progress


def test_a_server_that_is_away_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def away(**_: object) -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(artifacts, "create_progress_artifact", away)
    artifact = begin_progress()
    assert artifact is None
    publish_progress(artifact, 0.5)
    assert caplog.messages == ["not shown in Prefect: ConnectError: refused"]


def test_an_error_of_ours_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def wrong(**_: object) -> None:
        raise TypeError("wrong")

    monkeypatch.setattr(artifacts, "create_progress_artifact", wrong)
    with pytest.raises(TypeError, match="wrong"):
        begin_progress()
