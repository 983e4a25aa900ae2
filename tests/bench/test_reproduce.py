"""Published figures beside measured ones, and refusals of data that are not those of the papers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from weaktal import Dataset
from weaktal.bench import cards as cards_module
from weaktal.bench.cards import Card, card_of, cards
from weaktal.bench.published import published, published_of
from weaktal.bench.reproduce import reproduce, what_to_get
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.evaluate import PROTOCOLS
from weaktal.methods import METHODS
from weaktal.train.config import recipes, resolve_config

SMALL = {"hidden": 4, "epochs": 2, "segments": 12, "batch_size": 4, "lr": 1e-3}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set that its card describes: eight training videos of two classes, four test videos."""
    rng = np.random.default_rng(0)
    database = {}
    for v in range(12):
        subset, label = ("train", "test")[v >= 8], v % 2
        x = np.maximum(rng.standard_normal((24, 8)), 0).astype(np.float32)
        x[8:16, label] += 3
        for stream, columns in (("rgb", x[:, :4]), ("flow", x[:, 4:])):
            folder = tmp_path / "features" / subset / stream
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"v{v}.npy", columns)
        rows = [{"segment": [8 / 1.5625, 16 / 1.5625], "label": f"class{label}"}]
        database[f"v{v}"] = {"subset": subset, "duration": 24 / 1.5625, "annotations": rows}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    path = tmp_path / "data.yaml"
    path.write_text(
        "name: toy\nannotations: gt.json\nsubsets: {train: train, test: test}\n"
        "features: {path: features, rate: 1.5625}\n"
    )
    card = Card(
        title="Toy14",
        classes=2,
        names=("class0", "class1"),
        train={8: 8},
        test={4: 4, 6: 7},
        rate=1.5625,
        width=8,
        features="toy features",
        get="nowhere",
    )
    monkeypatch.setattr(cards_module, "cards", lambda: {**cards(), "thumos14": card})
    return path


def test_figures_have_sources_protocols_and_cards() -> None:
    for entry in published():
        assert entry.source
        assert entry.data in cards()
        assert entry.protocol in PROTOCOLS
        if len(entry.mAP) == 7 and entry.average is not None:
            assert np.mean(list(entry.mAP.values())) == pytest.approx(entry.average, abs=0.06)
    first = published_of("thumos14", "asm_loc")
    assert [p.figures["0.5"] for p in first] == [36.8, 36.6]
    assert published_of("activitynet13", "asm_loc")[0].figures["0.95"] == 6.2


def test_every_reported_pair_has_a_recipe_that_is_valid() -> None:
    pairs = {(p.method, p.data) for p in published() if p.method in METHODS}
    for method, data in pairs:
        assert data in recipes(method), f"{method} is published on {data} and has no recipe"
    for method in METHODS:
        for name in recipes(method):
            resolve_config(method, name)


def test_without_data_it_says_what_to_get(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "lac", "thumos14"]) == 0
    told = capsys.readouterr().out
    for part in ("210 (3,311 instances)", "points:", "52.8", "rate: 1.5625"):
        assert part in told
    assert "points" not in what_to_get("sal", "activitynet13").split("published")[0].split("describe")[1]
    for words, said in ((["sal", "thumos"], "did you mean 'thumos14'"), (["sall", "thumos14"], "'sal'")):
        assert main(["reproduce", *words]) == 2
        assert said in capsys.readouterr().err


def test_measured_beside_published(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [w for k, v in SMALL.items() for w in ("--set", f"{k}={v}")]
    out = tmp_path / "out"
    words = ["reproduce", "sal", "thumos14", "--data", toy, "--out", out, "--seeds", 0, 1, *settings]
    assert main([str(w) for w in [*words, "--evaluate-every", 1, "--quiet"]]) == 0
    told = capsys.readouterr().out
    for part in ("last checkpoint", "best on the test set", "± over seeds", "76.3", "best minus published"):
        assert part in told
    assert "DIFFERENT: setting hidden = 4" in told
    assert "note: the test list of 4 videos; others use 6" in told
    found = json.loads((out / "reproduction.json").read_text())
    for seed in ("0", "1"):
        assert np.mean(found["best_on_test"][seed]) >= np.mean(found["last"][seed]) - 1e-9
    assert found["differences"]["average"] == pytest.approx(
        np.mean([np.mean(v) for v in found["best_on_test"].values()]) - 50.6
    )
    page = (out / "report.html").read_text()
    assert "official repository, README" in page
    assert "DIFFERENT" in page


def change(path: Path, **entries: object) -> Path:
    described = {**yaml.safe_load(path.read_text()), **entries}
    other = path.with_name("other.yaml")
    other.write_text(yaml.safe_dump(described))
    return other


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("rate", "3.125 snippets a second, papers use 1.5625"),
        ("subsets", "wrong way round"),
        ("list", "7 train videos, papers use 8"),
        ("missing", "3 of 8 train videos have no features"),
        ("width", "features are 6 wide, papers use 8"),
        ("class", "3 classes, Toy14 has 2.*not of Toy14: class9"),
        ("instances", "5 test instances in 4 videos, papers count 4"),
    ],
)
def test_wrong_data_are_refused_with_the_cause(toy: Path, tmp_path: Path, what: str, said: str) -> None:
    path, database = toy, json.loads((toy.parent / "gt.json").read_text())["database"]
    if what == "rate":
        path = change(toy, features={"path": "features", "rate": 3.125})
    elif what == "subsets":
        card = card_of("thumos14")
        object.__setattr__(card, "test", {4: 4})
        path = change(toy, subsets={"train": "test", "test": "train"})
    elif what == "missing":
        for v in range(3):
            for stream in ("rgb", "flow"):
                (toy.parent / f"features/train/{stream}/v{v}.npy").unlink()
    elif what == "width":
        for file in (toy.parent / "features").rglob("flow/*.npy"):
            np.save(file, np.load(file)[:, :2])
    else:
        if what == "list":
            del database["v0"]
        else:
            label = "class9" if what == "class" else "class0"
            database["v8"]["annotations"].append({"segment": [1.0, 2.0], "label": label})
        (toy.parent / "gt.json").write_text(json.dumps({"database": database}))
    with pytest.raises(InputError, match=said):
        reproduce("sal", "thumos14", path, tmp_path / "out", settings=SMALL)
    assert not (tmp_path / "out").exists()


def test_a_method_without_that_recipe(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recipe for gtea"):
        reproduce("sal", "gtea", toy, tmp_path)
    shutil.rmtree(toy.parent / "features")
    with pytest.raises(InputError):
        reproduce("sal", "thumos14", Dataset.load(toy), tmp_path)
