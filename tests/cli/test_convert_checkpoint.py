"""Official weights to a run directory."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.methods import tiny

from weaktal.cli import main
from weaktal.core import InputError, WeakLabels
from weaktal.dataset import Dataset
from weaktal.features.bank import FeatureBank
from weaktal.methods.lac import LAC
from weaktal.methods.protocol import TrainingData
from weaktal.methods.stcl_net import STCLNet
from weaktal.train import Run
from weaktal.train.inference import score_videos
from weaktal.train.official import load_official


def test_official_weights_become_a_run(tmp_path: Path) -> None:
    method, bank = tiny.build("lac").eval(), tiny.data("lac").bank
    assert isinstance(method, LAC)
    state = {f"module.{k}": v for k, v in method.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "official.pkl")
    command = ["convert-checkpoint", "lac", str(tmp_path / "official.pkl"), str(tmp_path / "run")]
    assert main([*command, "--set", "steps=7"]) == 0
    run = Run.open(tmp_path / "run")
    again = run.method()
    assert (run.config.config["hidden"], run.config.config["steps"]) == (8, 7)
    assert isinstance(again, LAC)
    for a, b in zip(score_videos(method, bank), score_videos(again, bank), strict=True):
        np.testing.assert_array_equal(a.cas, b.cas)
    assert main(command) == 2  # there is a run already


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A data set of ten videos, of which the last two are test videos."""
    toy = tiny.data("stcl_net", videos=10)
    bank = toy.bank
    (tmp_path / "features").mkdir()
    database = {}
    for i, (name, weak) in enumerate(zip(bank.names, toy.weak.videos, strict=True)):
        rows = bank.data[bank.offsets[i] : bank.offsets[i] + bank.lengths[i]]
        np.save(tmp_path / f"features/{name}.npy", rows.numpy())
        seen = [{"label": toy.weak.classes[c], "segment": [0.0, 1.0]} for c in weak.labels]
        subset = "training" if i < 8 else "validation"
        database[name] = {"subset": subset, "duration": len(rows) / 2, "annotations": seen}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    about = {
        "name": "small",
        "annotations": "gt.json",
        "subsets": {"train": "training", "test": "validation"},
        "features": {"path": "features", "rate": 2.0},
        "protocol": "activitynet",
    }
    (tmp_path / "data.yaml").write_text(json.dumps(about))
    return tmp_path / "data.yaml"


def test_official_stcl_net_weights_get_exemplars_from_the_training_subset(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = tiny.build("stcl_net")
    assert isinstance(method, STCLNet)
    torch.save(method.network.state_dict(), tmp_path / "official.pkl")
    command = ["convert-checkpoint", "stcl_net", str(tmp_path / "official.pkl")]
    sizes = ["--set", "snippets=20", "--set", "exemplar_videos=2"]
    assert main([*command, str(tmp_path / "bare"), *sizes]) == 0
    assert "convert with --data" in capsys.readouterr().err
    assert main(["localize", str(tmp_path / "bare"), "--data", str(small)]) == 2
    assert "--data" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "run"), *sizes, "--data", str(small)]) == 0
    assert "convert with --data" not in capsys.readouterr().err
    for name in list(json.loads((tmp_path / "gt.json").read_text())["database"])[:8]:
        (tmp_path / f"features/{name}.npy").unlink()  # the run needs them no more
    assert main(["localize", str(tmp_path / "run"), "--data", str(small)]) == 0
    found = Run.open(tmp_path / "run").method()
    dataset = Dataset.load(small)
    expected = tiny.build("stcl_net").eval()
    assert isinstance(found, STCLNet)
    assert isinstance(expected, STCLNet)
    assert found.has_exemplars
    toy = tiny.data("stcl_net", videos=10)
    weak = WeakLabels(dataset.classes, toy.weak.videos[:8])
    bank = toy.bank
    first = [bank.data[bank.offsets[i] : bank.offsets[i] + bank.lengths[i]].numpy() for i in range(8)]
    expected.make_exemplars(TrainingData(FeatureBank.of(bank.names[:8], first, 2.0), weak))
    torch.testing.assert_close(found.exemplars, expected.exemplars)


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("ran"),))


def test_a_pickle_with_code_in_it_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    torch.save({"w": torch.zeros(1), "x": Evil()}, path)
    with pytest.raises(InputError, match=r"holds more than weights.*weights_only=False"):
        load_official(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError):
        load_official(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no", "evil|not a checkpoint|more than weights"), (None, "cannot read"), ({"epoch": 1}, "no weights")],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        load_official(path)
