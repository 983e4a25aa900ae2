"""A method of one's own, outside of the package: begun, tested, trained, localized, installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.bench.toy import toy_dataset

from weaktal import methods, testing
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.methods import find_method, load_method, method_names
from weaktal.templates import my_method
from weaktal.templates.my_method import MyMethod

PART = """
from weaktal.methods.protocol import Method, MethodConfig
class Mine(Method):
    name, supervision, Config = "mine", "{supervision}", MethodConfig
"""
TINY = ["--set", "hidden=8", "--set", "epochs=2", "--set", "batch_size=4"]


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_own", {})


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_the_template_fulfils_the_contract(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = my_method.MyMethodConfig(hidden=8, epochs=3, batch_size=4)
    check(testing.Subject(MyMethod, config), tmp_path)


def test_the_template_learns(tmp_path: Path) -> None:
    config = my_method.MyMethodConfig(hidden=16, epochs=60, batch_size=8, lr=1e-2, dropout=0)
    subject = testing.Subject(MyMethod, config)
    method, data = subject.trained(tmp_path)
    with torch.no_grad():
        scores = method.eval().score(data.whole(np.arange(len(data))))  # type: ignore[operator]
    right = [s.video_scores.argmax() == v.labels[0] for s, v in zip(scores, data.weak.videos, strict=True)]
    assert all(right)


def test_from_begin_to_detections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`new method`, its own test, train, localize and evaluate, as the tutorial has them."""
    data = str(toy_dataset(tmp_path))
    assert main(["new", "method", "blink_net", "--out", str(tmp_path / "mine")]) == 0
    told = capsys.readouterr().out
    module = tmp_path / "mine/blink_net.py"
    kind = f"{module}:BlinkNet"
    assert f"weaktal train {kind}" in told
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_blink_net.py"],
        cwd=module.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    run, recipe = tmp_path / "run", str(module.with_suffix(".yaml"))
    words = ["train", kind, "--recipe", recipe, "--data", data, "--out", str(run), "--quiet"]
    assert main([*words, *TINY]) == 0
    methods._own.clear()
    assert main(["localize", str(run), "--data", data]) == 2  # no file runs because a file names it
    assert "--code" in capsys.readouterr().err
    assert main(["localize", str(run), "--data", data, "--code", kind]) == 0
    assert json.loads((run / "detections.json").read_text())["results"]


def test_an_installed_method_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(my_method.__file__).read_text().replace('"my_method"', '"blink_net"')
    (tmp_path / "blink.py").write_text(text)
    info = tmp_path / "blink-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blink\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[weaktal.methods]\nblink_net = blink:MyMethod\nother = blink:MyMethod\ngone = nowhere:No\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "blink_net" in method_names()
    assert find_method("blink_net").name == "blink_net"
    for name, said in (("other", "another name|contract"), ("gone", "cannot be loaded")):
        with pytest.raises(InputError, match=said):
            find_method(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Mine: pass", "no method"),
        ("import nowhere", "cannot be run.*ModuleNotFoundError"),
        ("from weaktal.methods.protocol import Method\nclass Mine(Method): pass", "name"),
        (PART.format(supervision="videos"), "supervision.*'videos'"),
        (PART.format(supervision="video"), "stages"),
        ("from weaktal.methods.sal import SAL as Mine", "taken"),
    ],
)
def test_what_is_no_method_is_told_before_anything_is_trained(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_method(f"{path}:Mine")


def test_bad_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from weaktal.templates.my_method import MyMethod")
    for where, said in (
        (f"{path}:MyMetod", "did you mean 'MyMethod'"),
        (f"{tmp_path}/no.py:A", "no such file"),
    ):
        with pytest.raises(InputError, match=said):
            load_method(where)
    for name in ("sal", "My Method", "../x"):
        assert main(["new", "method", name, "--out", str(tmp_path)]) == 2
    assert main(["new", "method", "mine", "--out", str(tmp_path)]) == 2
    assert "already" in capsys.readouterr().err


def test_a_broken_method_fails_the_check_that_says_why() -> None:
    class Leaky(MyMethod):
        def score(self, batch):  # type: ignore[no-untyped-def]
            scores = super().score(batch)
            for s in scores:
                s.cas[:] += float(batch.features.shape[1])
            return scores

    with pytest.raises(AssertionError, match="padding leaks"):
        testing.check_method(Leaky, hidden=8, epochs=1)
