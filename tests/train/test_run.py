"""Configuration, run directories, data at the device, inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.train.linear_mil import LinearMIL, LinearMILConfig
from weaktal.core import CoverageWarning, Detections, InputError, SnippetScores, TimeAxis
from weaktal.features.bank import FeatureBank
from weaktal.formats.scores import load_scores, save_scores
from weaktal.testing import toy_data
from weaktal.train import Run, feature_bank, fit, resolve_config
from weaktal.train.data import parse_size
from weaktal.train.inference import batches, detect_videos, in_order, score_videos


def test_settings_are_typed_and_win_over_the_recipe(linear_mil: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: 30\nlearning_rate: 1e-3\n")
    config = resolve_config(linear_mil, str(recipe), {"steps": 7, "dropout": 0})
    assert config == LinearMILConfig(steps=7, learning_rate=1e-3, dropout=0.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"steps": "many"}, "steps: Input should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_named(linear_mil: str, setting: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_config(linear_mil, None, setting)


def test_a_wrong_recipe_is_named(linear_mil: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe"):
        resolve_config(linear_mil, "thumos99")
    broken = tmp_path / "broken.yaml"
    broken.write_text("steps: 3\n  x: [\n")
    with pytest.raises(InputError, match=r"broken\.yaml: line 2"):
        resolve_config(linear_mil, str(broken))
    broken.write_text("stepz: 3\n")
    with pytest.raises(InputError, match=r"broken\.yaml: unknown setting.*did you mean 'steps'"):
        resolve_config(linear_mil, str(broken))


def make(tmp_path: Path, linear_mil: str, resume: bool = False, **changes: object) -> Run:
    data = toy_data()
    config = LinearMILConfig(**changes)  # type: ignore[arg-type]
    return Run.create(
        tmp_path / "run",
        linear_mil,
        config,
        dim=data.bank.dim,
        classes=data.weak.classes,
        seed=3,
        resume=resume,
    )


def test_a_run_comes_back_as_it_was(linear_mil: str, tmp_path: Path) -> None:
    run = make(tmp_path, linear_mil, steps=5)
    method = run.build()
    fit(method, toy_data(), run.folder, seed=run.config.seed, device="cpu", progress=False)
    again = Run.open(run.folder)
    assert again.config == run.config
    loaded = again.method()
    assert not loaded.training
    assert loaded.state_dict().keys() == method.state_dict().keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, method.state_dict()[name], rtol=0, atol=0)
    torch.testing.assert_close(loaded.mean_score, method.mean_score, rtol=0, atol=0)  # type: ignore
    written = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert set(written["config"]) == set(LinearMILConfig.model_fields)
    assert {"weaktal", "torch", "numpy"} <= set(written["versions"])


def test_building_twice_gives_the_same_weights(linear_mil: str, tmp_path: Path) -> None:
    run = make(tmp_path, linear_mil)
    torch.testing.assert_close(run.build().state_dict(), run.build().state_dict(), rtol=0, atol=0)


def test_a_run_is_not_overwritten_or_changed(linear_mil: str, tmp_path: Path) -> None:
    make(tmp_path, linear_mil)
    with pytest.raises(InputError, match="a run in this folder already"):
        make(tmp_path, linear_mil)
    make(tmp_path, linear_mil, resume=True)
    with pytest.raises(InputError, match=r"another setting: found 12, expected 13"):
        make(tmp_path, linear_mil, resume=True, steps=13)
    with pytest.raises(InputError, match="no run directory"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match="no such checkpoint"):
        Run.open(tmp_path / "run").method()


class Store:
    """A feature store in memory, as far as banks need one."""

    rate = 1.5625
    provenance: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, bank: FeatureBank) -> None:
        cuts = zip(bank.names, bank.offsets, bank.offsets[1:], strict=False)
        self.arrays = {n: bank.data[a:b].numpy() for n, a, b in cuts}
        self.names, self.dim = tuple(self.arrays), bank.dim

    def length(self, name: str) -> int:
        return len(self.arrays[name])

    def load(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def axis(self, name: str) -> TimeAxis:
        return TimeAxis.uniform(self.length(name), self.rate)


def test_training_on_mapped_features_gives_the_same_bits(tmp_path: Path) -> None:
    data = toy_data()
    store = Store(data.bank)
    for where, limit in (("memory", "1GiB"), ("mapped", 100)):
        bank = feature_bank(store, data.bank.names, max_memory=limit, scratch=tmp_path)  # type: ignore
        assert (bank.mapping is None) == (where == "memory")
        torch.manual_seed(0)
        method = LinearMIL(LinearMILConfig(), dim=6, classes=data.weak.classes)
        mapped = type(data)(bank, data.weak, data.seed)
        fit(method, mapped, tmp_path / where, device="cpu", progress=False)
    first, second = (tmp_path / w / "checkpoints/last/weights.safetensors" for w in ("memory", "mapped"))
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(InputError, match="do not fit"):
        feature_bank(store, data.bank.names, max_memory=100)  # type: ignore[arg-type]


def test_sizes() -> None:
    assert parse_size("8GiB") == 8 * 2**30
    assert parse_size("500 MB") == 5 * 10**8
    for wrong in ("much", "3XB", ""):
        with pytest.raises(InputError, match="not a size"):
            parse_size(wrong)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_hold_every_video_once_and_stay_small(lengths: list[int], rows: int) -> None:
    n = np.array(lengths, np.int64)
    parts = list(batches(n, rows))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(n)))
    assert all(len(p) == 1 or len(p) * n[p].max() <= rows for p in parts)


def test_scores_do_not_depend_on_the_batches() -> None:
    data = toy_data()
    method = LinearMIL(LinearMILConfig(), dim=6, classes=data.weak.classes).eval()
    one, many = (score_videos(method, data.bank, rows=rows) for rows in (1, 10**6))
    for a, b in zip(one, many, strict=True):
        assert a.video == b.video
        np.testing.assert_allclose(a.cas, b.cas, rtol=1e-6)
    assert detect_videos(method, data.bank).names == data.bank.names


def test_detections_of_batches_come_in_the_order_of_the_videos() -> None:
    data = toy_data(3)
    method = LinearMIL(LinearMILConfig(), dim=6, classes=data.weak.classes)
    a, b, c = data.bank.names
    first = Detections((c, a), method.classes, [0, 1, 0], [1, 2, 3], [4, 5, 6], [0, 0, 0], [3, 2, 1])
    found = in_order([first], method, data.bank)
    assert found.names == (a, b, c)
    assert found.video.tolist() == [0, 2, 2]
    assert found.score.tolist() == [2, 3, 1]


def test_scores_survive_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    axis = TimeAxis(5, np.array([0, 2, 5.0]), np.array([1, 4, 9.0]))
    scores = [
        SnippetScores(
            f"v{n}",
            rng.random((n, 2)).astype(np.float32),
            rng.random(n).astype(np.float32),
            rng.random(2).astype(np.float32),
            axis if n == 5 else TimeAxis.uniform(n, 1.5625),
        )
        for n in (5, 1, 7)
    ]
    path = tmp_path / "scores/test.safetensors"
    save_scores(scores, path, ("a", "ü"))
    loaded, classes = load_scores(path)
    assert classes == ("a", "ü")
    for a, b in zip(scores, loaded, strict=True):
        assert a.video == b.video
        for name in ("cas", "foreground", "video_scores"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.axis.centers(), b.axis.centers())
    save_scores([], path, ("a",))
    assert load_scores(path) == ([], ("a",))
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read these scores"):
        load_scores(path)


def test_videos_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    from weaktal.core import Annotations, Video
    from weaktal.train.data import training_data

    bank = toy_data(4).bank

    class Data:
        store = Store(bank)

        def subset(self, role: str) -> Annotations:
            names = [*bank.names, "gone"]
            labels = [(0,), (1,), (), (0,), (1,)]
            return Annotations.of("abc", [Video(n, labels=c) for n, c in zip(names, labels, strict=True)])

    with pytest.warns(CoverageWarning) as found:
        data = training_data(Data(), "video")  # type: ignore[arg-type]
    texts = sorted(str(w.message) for w in found)
    assert len(data) == 3
    assert "1 of 5 train videos have no features and are left out: gone" in texts[0]
    assert "1 of 5 train videos have no label" in texts[1]
