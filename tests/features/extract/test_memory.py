"""Hours of video in the memory of minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("cv2")

from tests.features.extract.media import moving, write_video

MEASURE = """
import sys
from pathlib import Path
from weaktal.features.extract.driver import open_video, stream_features
from weaktal.features.extract.motion import Motion

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024

backbone = Motion(fps=float(sys.argv[2]))
reader = open_video(backbone.describe(), Path(sys.argv[1]))
seen, rows = [], 0
for block in stream_features(backbone, backbone.describe(), reader):
    rows += len(block["rgb"])
    seen.append(resident())
print(rows, seen[len(seen) // 10], max(seen[len(seen) // 10 :]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_ten_minutes_take_the_memory_of_one(tmp_path: Path) -> None:
    period = [moving(k, (160, 120)) for k in range(32)]
    frames = (period * 94)[:3000]
    path = write_video(tmp_path / "long.mp4", frames, fps=5, keyframes=250)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), "5"], capture_output=True, text=True, check=True
    )
    rows, early, most = (float(x) for x in result.stdout.split())
    assert rows == 750
    assert np.prod(frames[0].shape) * len(frames) > 170e6
    assert most - early < 15, f"grew from {early} to {most} MB"
