"""Official weights to a run directory."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.methods import tiny

from weaktal.cli import main
from weaktal.cli.convert_checkpoint import load_official
from weaktal.core import InputError
from weaktal.methods.lac import LAC
from weaktal.train import Run
from weaktal.train.inference import score_videos


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
