"""Life and death of the side process that runs dxtbx, with real signals."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ssx_processing.errors import DxtbxProcessError, ImageReadError, SettingsError
from ssx_processing.formats.dxtbx_child import ChildLostError, DxtbxChild
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.dxtbx_process import ENVIRONMENT_VARIABLE, TIMEOUT_VARIABLE, DxtbxProcess
from ssx_processing.formats.frames import FrameSet
from tests.unit.formats.dxtbx_files import (
    FatalPython,
    rayonix_frames,
    side_process,
    write_fatal_python,
    write_sacla_rayonix,
)

N_FRAMES = 7


@pytest.fixture
def still(dxtbx_python: str, tmp_path: Path) -> Path:
    return write_sacla_rayonix(tmp_path / "run.h5", rayonix_frames(N_FRAMES))


@pytest.fixture
def fatal(dxtbx_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FatalPython]:
    python = write_fatal_python(tmp_path, dxtbx_python)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(python.path))
    side_process().close()
    yield python
    side_process().close()


@pytest.fixture
def own_process() -> Iterator[DxtbxProcess]:
    process = DxtbxProcess()
    yield process
    process.close()


def assert_frame(reader: DxtbxReader, index: int) -> None:
    np.testing.assert_array_equal(reader.read(index), rayonix_frames(N_FRAMES)[index])


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_process_lost_between_two_requests_costs_nothing(
    still: Path, fatal: FatalPython, monkeypatch: pytest.MonkeyPatch, blow: signal.Signals
):
    reader = DxtbxReader(still)
    pid = side_process().pid
    assert pid is not None
    monkeypatch.setenv(TIMEOUT_VARIABLE, "10")
    os.kill(pid, blow)
    assert_frame(reader, 3)
    assert side_process().pid not in (None, pid)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("when", "blow"), [("open", signal.SIGKILL), ("read 3", signal.SIGKILL), ("read 3", signal.SIGSTOP)]
)
def test_request_over_which_the_process_is_lost_once_is_made_again(
    still: Path, fatal: FatalPython, monkeypatch: pytest.MonkeyPatch, when: str, blow: signal.Signals
):
    monkeypatch.setenv(TIMEOUT_VARIABLE, "10")
    fatal.dies(when, by=blow, times=1)
    assert_frame(DxtbxReader(still), 3)


def test_frame_that_kills_twice_costs_itself_only(still: Path, fatal: FatalPython):
    reader = DxtbxReader(still)
    fatal.dies("read 3")
    with pytest.raises(
        ImageReadError,
        match=r"run\.h5: the dxtbx process died \(SIGKILL\) while reading frame 3, 2 times; the file may be",
    ):
        reader.read(3)
    assert_frame(reader, 4)


def test_file_over_which_the_process_hangs_twice_is_an_error(
    still: Path, fatal: FatalPython, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(TIMEOUT_VARIABLE, "1")
    fatal.dies("open", by=signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(ImageReadError, match=r"gave no answer within 1 s and was killed while opening the"):
        DxtbxReader(still)
    assert time.monotonic() - begun < 60


def test_three_failures_in_a_row_blame_no_file(still: Path, fatal: FatalPython):
    reader = DxtbxReader(still)
    for frame in (1, 2):
        fatal.dies(f"read {frame}")
        with pytest.raises(ImageReadError, match=rf"while reading frame {frame}"):
            reader.read(frame)
    fatal.dies("read 3")
    with pytest.raises(DxtbxProcessError, match=r"frame 3, 2 times, as over 2 requests before; look at"):
        reader.read(3)
    fatal.dies("never")
    assert_frame(reader, 3)


def test_a_frame_that_is_read_in_between_starts_the_count_again(still: Path, fatal: FatalPython):
    reader = DxtbxReader(still)
    for frame in (1, 2, 3):
        fatal.dies(f"read {frame}")
        with pytest.raises(ImageReadError, match="dxtbx process died"):
            reader.read(frame)
        if frame == 2:
            assert_frame(reader, 6)


def test_process_that_never_starts_is_no_fault_of_the_file(still: Path, fatal: FatalPython):
    fatal.dies("start")
    with pytest.raises(DxtbxProcessError, match=r"fatal_python: died \(SIGKILL\) when importing dxtbx, 2"):
        DxtbxReader(still)


def test_process_that_hangs_when_it_starts_is_killed(fatal: FatalPython):
    fatal.dies("start", by=signal.SIGSTOP)
    with pytest.raises(ChildLostError, match=r"gave no answer within 0\.5 s and was killed"):
        DxtbxChild(str(fatal.path), start_limit_s=0.5)


def test_frame_set_goes_on_after_the_frame_that_kills(still: Path, fatal: FatalPython):
    fatal.dies("read 2")
    read = []
    with FrameSet([still]) as frames:
        for frame in range(N_FRAMES):
            try:
                read.append(frames.read(frame).sum())
            except ImageReadError:
                read.append(-1)
    expected = rayonix_frames(N_FRAMES).sum(axis=(1, 2))
    assert read == [-1 if frame == 2 else expected[frame] for frame in range(N_FRAMES)]


def test_answer_to_an_interrupted_request_is_not_taken_for_the_next(still: Path, fatal: FatalPython):
    reader = DxtbxReader(still)
    assert_frame(reader, 1)

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        fatal.dies("read 2", by=signal.SIGSTOP, times=1)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            reader.read(2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert_frame(reader, 3)


def test_one_process_serves_all_files_and_threads(still: Path, tmp_path: Path):
    paths = [still, *(Path(shutil.copy(still, tmp_path / f"run_{number}.h5")) for number in range(1, 4))]

    def read_all(path: Path) -> int | None:
        reader = DxtbxReader(path)
        for index in [*range(N_FRAMES)] * 5:
            assert_frame(reader, index)
        return side_process().pid

    with ThreadPoolExecutor(4) as threads:
        pids = set(threads.map(read_all, paths))
    assert len(pids) == 1
    assert None not in pids


def read_checked(path: Path) -> int | None:
    reader = DxtbxReader(path)
    for index in range(N_FRAMES):
        assert_frame(reader, index)
    return side_process().pid


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_forked_during_a_request_has_a_process_of_its_own(still: Path):
    reader = DxtbxReader(still)
    pid = side_process().pid
    stop = threading.Event()

    def read_for_ever() -> None:
        while not stop.is_set():
            assert_frame(reader, 2)

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read_for_ever)
        try:
            with multiprocessing.get_context("fork").Pool(2) as pool:
                others = pool.map(read_checked, [still] * 4, chunksize=1)
        finally:
            stop.set()
        reading.result()
    assert None not in others
    assert pid not in others
    assert read_checked(still) == pid


def test_process_ends_when_its_parent_is_killed(still: Path):
    script = (
        "import os, sys, signal; from pathlib import Path;"
        "from ssx_processing.formats.dxtbx_frames import DxtbxReader;"
        "from ssx_processing.formats.dxtbx_connection import shared_connection;"
        f"DxtbxReader(Path({str(still)!r})); print(shared_connection().pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(finished.stdout)}/stat")
    deadline = time.monotonic() + 10
    while status.exists() and status.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or status.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        (sys.executable, "No module named 'dxtbx'"),
        ("/no/python", "No such file"),
        (shutil.which("false") or "", "ended with status 1"),
    ],
)
def test_missing_dxtbx_is_explained(
    own_process: DxtbxProcess, monkeypatch: pytest.MonkeyPatch, python: str, reason: str
):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, python)
    with pytest.raises(ImageReadError, match=rf"a\.cbf: .*{reason}.*python3-dials or set SSX_DXTBX_PYTHON"):
        own_process.request(lambda _: None, op="open", path="a.cbf")


def test_time_limit_that_is_no_number_is_an_error(still: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TIMEOUT_VARIABLE, "soon")
    with pytest.raises(SettingsError, match="SSX_DXTBX_TIMEOUT is 'soon', expected a number of seconds"):
        DxtbxReader(still)
