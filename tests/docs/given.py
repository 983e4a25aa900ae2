"""What a page takes for granted: steps before its first block, and names that its Python blocks use.

A step is ("command", a line for the shell) or ("python", code), see `runner.py`; all in the folder that
`world.py` made.
"""

from __future__ import annotations

Step = tuple[str, str]

_DATA = """
import json, os
import numpy as np
database = json.load(open("gt.json"))["database"]
for folder in ("joint_angles", "watch", "clicks-in-frames/features"):
    os.makedirs(folder)
for name, video in database.items():
    at = np.arange(0, video["duration"], 0.1)
    np.save(f"joint_angles/{name}.npy", np.ones((int(30 * video["duration"]), 3), np.float32))
    np.savetxt(f"watch/{name}.csv", np.stack([at, at], 1), delimiter=",", header="time,x", comments="")
    np.save(f"clicks-in-frames/features/{name}.npy", np.ones((48, 4), np.float32))
with open("clicks-in-frames/points.txt", "w") as file:
    for name, video in database.items():
        file.writelines(f"{name},1000,{a['label']}\\n" for a in video["annotations"])
with open("clicks-in-frames/data.yaml", "w") as file:
    file.write("annotations: ../gt.json\\npoints: points.txt\\nfeatures: {path: features, rate: 1.5625}\\n")
rgb, flow = np.ones((48, 4), np.float32), np.ones((48, 4), np.float32)
"""
# each data set in a folder of its own, with its subsets and classes
_CARDS = """
import os, shutil
from pathlib import Path
import numpy as np
files = [p for p in Path().iterdir() if p.is_file() or p.name in ("wtalc", "features")]
for name in ("thumos14", "activitynet13", "gtea", "beoid"):
    os.mkdir(name)
    for file in files:
        (shutil.copytree if file.is_dir() else shutil.copy)(file, Path(name) / file.name)
subset = np.load("wtalc/subset.npy")
np.save("activitynet13/wtalc/subset.npy", np.where(subset == b"test", b"val", b"train"))
for name in ("gtea", "beoid"):
    for file in ("gt.json", "point_gaussian.csv"):
        text = Path(name, file).read_text().replace('"train"', '"training"').replace('"test"', '"validation"')
        for ours, theirs in (("Diving", "stir"), ("Jump", "open"), ("Wave", "put")):
            text = text.replace(ours, theirs)
        Path(name, file).write_text(text)
"""
_EXCHANGE = """
from weaktal.formats import load_annotations, save_annotations
truth = load_annotations("gt.json")
one = truth.where(lambda video: video.name == "video_test_0000009")
save_annotations(truth, "annotations.json")
save_annotations(truth, "project.boris")
save_annotations(truth, "anna.json")
save_annotations(one, "anna.boris")
save_annotations(one, "ben", "elan")
"""

_MOTION = """
with open("motion.yaml", "w") as file:
    file.write("name: motion\\nannotations: motion.json\\nfeatures: {path: motion}\\n")
"""

BEFORE: dict[str, list[Step]] = {
    "data.md": [
        ("command", "cp -r features thumos/features"),
        ("command", "weaktal data convert features i3d --rate 1.5625"),
        ("python", _DATA),
    ],
    "datasets.md": [("python", _CARDS)],
    "exchange.md": [
        ("python", _EXCHANGE),
        ("command", "mv ben/*.eaf ben.eaf"),
        ("command", "weaktal data convert gt.json export.json --to label-studio"),
    ],
    "own_videos.md": [("command", "rm -r my_data.yaml features")],
    "student.md": [("command", "weaktal train hr_pro --data thumos14.yaml --out runs/hr_pro")],
    "training.md": [
        ("command", f"weaktal train lac --data my.yaml --out {run}") for run in ("runs/lac", "old/lac-7")
    ],
    "trust.md": [
        ("command", "weaktal extract videos --backbone motion --out motion"),
        ("python", _MOTION.replace("motion.yaml", "my.yaml")),
        *[
            ("command", f"weaktal train asm_loc --recipe own --data my.yaml --seed {n} --out run{n}")
            for n in (1, 2, 3)
        ],
    ],
    "videos.md": [
        ("command", "weaktal extract videos --backbone motion --out motion"),
        ("python", _MOTION),
        ("command", "weaktal train asm_loc --data motion.yaml --out RUN"),
    ],
}


def _weights(module: str, kind: str, config: str, of: str = "", name: str = "state_dict") -> str:
    """A small network of a method, for its names of the official weights."""
    return f"""
from weaktal.methods.{module} import {kind}, {kind}Config
names = ("Diving", "Jump", "Wave")
{name} = {kind}({kind}Config({config}), dim=8, classes=names){of}.state_dict()
"""


_TRAINING = """
import numpy as np
from weaktal.dataset import Dataset
from weaktal.train import training_data as read
training_data = read(Dataset.load("bench.yaml"), "video")
bank, batch = training_data.bank, training_data.whole(np.array([0]))
"""
_PROPOSALS = """
from weaktal.formats import load_detections
detections = load_detections("train.json", names)
"""
_ASM_LOC = """
made = ASMLoc(ASMLocConfig(num_steps=3, heads=2), dim=8, classes=names)
states = {f"model_step{s}_last_epoch.pth": n.state_dict() for s, n in enumerate(made.networks)}
"""
_STUDENT = """
data, detections_in_training_videos = training_data, detections
"""

GIVEN: dict[str, str] = {
    "own_method.md": "import sys; sys.path.insert(0, 'mine')\nfrom blink_net import BlinkNet",
    "asm_loc.md": _weights("asm_loc", "ASMLoc", "num_steps=0", ".networks[0]") + _ASM_LOC,
    "hr_pro.md": _weights("hr_pro", "HRProSnippets", "", name="first_weights")
    + _weights("hr_pro", "HRPro", "", name="second_weights"),
    "issf.md": _weights("issf", "ISSF", "", ".network"),
    "lac.md": _weights("lac", "LAC", "hidden=8"),
    "p_mil.md": _weights("p_mil", "PMIL", "") + _TRAINING + _PROPOSALS,
    "sal.md": _weights("sal", "SAL", "hidden=8") + "recipe = {'sampling': 'activitynet'}",
    "stcl_net.md": _weights("stcl_net", "STCLNet", "attention_dim=8, key_dim=8", ".network") + _TRAINING,
    "tspnet.md": _weights("tspnet", "TSPNet", "") + _TRAINING + _PROPOSALS,
    "student.md": _weights("student", "Student", "") + _TRAINING + _PROPOSALS + _STUDENT,
}
