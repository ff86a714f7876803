import os
import subprocess
import sys
from pathlib import Path

CODE = """
from flows.prefect_environment import prepare
prepare()
import prefect.settings as s
print(s.PREFECT_HOME.value(), s.PREFECT_SERVER_ANALYTICS_ENABLED.value(),
      s.PREFECT_RESULTS_DEFAULT_SERIALIZER.value(),
      s.get_current_settings().server.services.task_run_recorder.batch_size)
"""


def run(code: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_prefect_takes_what_was_prepared(tmp_path: Path):
    home = tmp_path / "ssx-orchestrator" / "prefect"
    assert run(CODE, XDG_DATA_HOME=str(tmp_path)) == f"{home} False json 200"


def test_what_the_user_set_is_kept(tmp_path: Path):
    out = run(CODE, PREFECT_HOME=str(tmp_path), PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE="7")
    assert out == f"{tmp_path} False json 7"


TOO_LATE = """
import prefect
from flows.prefect_environment import prepare
try:
    prepare()
except RuntimeError as error:
    print(error)
"""


def test_preparing_too_late_is_an_error():
    assert "before its environment" in run(TOO_LATE)


SERVER = """
import sys
from flows.prefect_environment import server_is_configured
print(server_is_configured(), "prefect" in sys.modules)
"""
PROFILE = 'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n'


def test_without_a_server_prefect_is_not_even_imported(tmp_path: Path):
    assert run(SERVER, PREFECT_HOME=str(tmp_path)) == "False False"


def test_a_server_is_found_where_prefect_finds_it(tmp_path: Path):
    url = "http://127.0.0.1:1/api"
    assert run(SERVER, PREFECT_HOME=str(tmp_path), PREFECT_API_URL=url) == "True True"
    (tmp_path / "profiles.toml").write_text(PROFILE)
    assert run(SERVER, PREFECT_HOME=str(tmp_path)) == "True True"
    (tmp_path / "profiles.toml").write_text(PROFILE.replace("PREFECT_API_URL", "PREFECT_UI_URL"))
    assert run(SERVER, PREFECT_HOME=str(tmp_path)) == "False False"
