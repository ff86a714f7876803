"""What the first chunk of a fresh worker costs beyond a later one, the kernels being compiled already.

    python benchmarks/start_up.py

CPU seconds of a process that imports the pipeline, as the fork server does once for all workers, and
then processes chunks of 40 frames of 1 Mpx, half of them hits. Median of five processes.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import CalibrationSettings, ProcessingSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings

WORKER = """
import json, sys, time
from pathlib import Path
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import ChunkJob, process_chunk
from ssx_processing.settings import ProcessingSettings
imported = time.process_time()
master, settings, calibration, folder = sys.argv[1:]
settings = ProcessingSettings.model_validate_json(settings)
plan = make_plan([Path(master)], settings)
times = [time.process_time()]
for frames in plan.ranges:
    process_chunk(ChunkJob(plan.paths, plan.identity, frames, settings, Path(calibration), Path(folder)))
    times.append(time.process_time())
print(json.dumps([imported, *(b - a for a, b in zip(times, times[1:]))]))
"""


def main() -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chip = simulate_chip(folder, ChipSettings(n_frames=200, hit_fraction=0.5))
        settings = ProcessingSettings(
            sample=chip.sample, frames_per_chunk=40, calibration=CalibrationSettings(n_frames=40)
        )
        calibration = calibrate(make_plan([chip.master], settings), settings, folder)
        runs = []
        for number in range(6):
            arguments = [chip.master, settings.model_dump_json(), calibration.folder, folder / str(number)]
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", WORKER, *arguments], capture_output=True, check=True
            )
            runs.append(json.loads(done.stdout))
    runs = runs[1:]  # the first may have compiled
    later = statistics.median(statistics.median(run[2:]) for run in runs)
    print(f"import            {statistics.median(run[0] for run in runs):6.2f} s")
    print(f"first chunk       {statistics.median(run[1] for run in runs):6.2f} s")
    print(f"later chunks      {later:6.2f} s")
    print(f"extra of the first{statistics.median(run[1] for run in runs) - later:6.2f} s")


if __name__ == "__main__":
    main()
