"""Checkpoints: whole wherever saving is cut, and refused when they are not what was written."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.methods import tiny
from tests.train.linear_mil import LinearMIL, LinearMILConfig
from weaktal.core import CoverageWarning, InputError
from weaktal.testing import toy_data
from weaktal.train import DivergedError, Run, checkpoint, fit
from weaktal.train.checkpoint import Position
from weaktal.train.loop import seed_torch

FILES = ["weights.safetensors", "state.pt", "meta.json"]


class Stop(Exception):
    """Ends training or saving in the middle."""


def fresh(classes: str = "abc") -> LinearMIL:
    seed_torch(0)
    return LinearMIL(LinearMILConfig(), dim=6, classes=tuple(classes))


def train(out: Path, method: LinearMIL | None = None, **options: object) -> None:
    fit(method or fresh(), toy_data(), out, device="cpu", progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """A checkpoint in the middle of a stage, with an optimizer, and none before it."""
    method = fresh()
    optimizer = method.optimizer(0)
    sum(p.sum() for p in method.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    checkpoint.save(tmp_path / "last", method, optimizer, Position(0, 4, True), best=0.5)
    return tmp_path / "last"


@pytest.mark.parametrize("cut", range(12))
def test_a_checkpoint_is_old_or_new_wherever_saving_is_cut(
    tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = fresh()
    path = tmp_path / "last"
    checkpoint.save(path, method, None, Position(0, 1, True))
    calls = iter(range(100))

    def counted(inner):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            if next(calls) == cut:
                raise Stop
            return inner(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", counted(checkpoint.save_file))
        patch.setattr(checkpoint, "_fsync", counted(checkpoint._fsync))
        patch.setattr(checkpoint.torch, "save", counted(torch.save))
        patch.setattr(checkpoint.shutil, "rmtree", counted(checkpoint.shutil.rmtree))
        patch.setattr(Path, "rename", counted(Path.rename))
        try:
            checkpoint.save(path, method, None, Position(0, 2, True))
            whole = True
        except Stop:
            whole = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checkpoint.load(path)
    assert found is not None
    assert found.position.step in ((2,) if whole else (1, 2))
    checkpoint.save(path, method, None, Position(0, 3, True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "previous"]
    before = checkpoint.load(path.with_name("previous"))
    assert before is not None
    assert before.position == found.position


def damages(last: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways in which a file may be lost in part: bits, ends, zeros in place of a block, the file itself."""
    rng = random.Random(0)
    for name in FILES:
        file, content = last / name, (last / name).read_bytes()

        def write(changed: bytes, file: Path = file) -> Callable[[], object]:
            return lambda: file.write_bytes(changed)

        for _ in range(40):
            at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
            changed = bytearray(content)
            changed[at] ^= bit
            if name == "meta.json" and bytes(changed).split() == content.split():
                continue  # one blank for another
            yield f"{name}: bit {bit} of byte {at}", write(bytes(changed))
        half = len(content) // 2
        yield f"{name}: empty", write(b"")
        yield f"{name}: half", write(content[:half])
        yield f"{name}: a byte short", write(content[:-2])
        yield f"{name}: longer", write(content + b"x")
        yield f"{name}: zeros", write(content[:half] + bytes(len(content) - half))
        yield f"{name}: missing", file.unlink


def test_whatever_is_damaged_is_refused_in_a_line(last: Path) -> None:
    whole = {f: (last / f).read_bytes() for f in FILES}
    for what, damage in damages(last):
        damage()
        with pytest.raises(InputError, match="last: this checkpoint cannot be read") as said:
            checkpoint.load(last)
        assert "\n" not in str(said.value), what
        assert len(str(said.value)) < 400 + len(str(last)), what
        for file, content in whole.items():
            (last / file).write_bytes(content)
    assert checkpoint.load(last) is not None


def test_of_a_damaged_last_checkpoint_the_one_before_is_taken(tmp_path: Path) -> None:
    """Resumed from there, the run ends with the same bits; a run that only reads says so as well."""
    train(tmp_path / "whole", checkpoint_steps=3)
    stopped = fresh()
    inner, count = stopped.training_step, iter(range(100))

    def step(batch):  # type: ignore[no-untyped-def]
        if next(count) == 10:
            raise Stop
        return inner(batch)

    stopped.training_step = step  # type: ignore[method-assign]
    with pytest.raises(Stop):
        train(tmp_path / "cut", stopped, checkpoint_steps=3)
    last = tmp_path / "cut/checkpoints/last"
    content = (last / "weights.safetensors").read_bytes()
    (last / "weights.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.warns(CoverageWarning, match=r"last: .* the one before it is taken: .*, stage base, step 6"):
        train(tmp_path / "cut", resume=True, checkpoint_steps=3)
    for file in FILES:
        whole, cut = (tmp_path / run / "checkpoints/last" / file for run in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()
    for name in ("last", "previous"):
        (tmp_path / "cut/checkpoints" / name / "state.pt").write_bytes(b"no")
    with pytest.raises(InputError, match=r"checkpoints/last: this checkpoint cannot be read"):
        train(tmp_path / "cut", resume=True)


def test_the_best_checkpoint_has_no_other_in_its_place(tmp_path: Path) -> None:
    rising = iter(range(100))
    train(tmp_path, evaluate=lambda m: {"average": float(next(rising))}, choose="best-on-test")
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["best", "last", "previous"]
    (tmp_path / "checkpoints/best/state.pt").write_bytes(b"no")
    with pytest.raises(InputError, match="best: this checkpoint cannot be read"):
        checkpoint.load(tmp_path / "checkpoints/best")


def older(last: Path, *, change: Callable[[dict[str, torch.Tensor]], object] = lambda weights: None) -> Path:
    """The checkpoint as versions before checksums wrote it, and perhaps changed."""
    meta = json.loads((last / "meta.json").read_text())
    (last / "meta.json").write_text(json.dumps({k: meta[k] for k in ("method", "stage", "step", "begun")}))
    weights = load_file(last / "weights.safetensors")
    change(weights)
    save_file(weights, last / "weights.safetensors")
    return last


def test_checkpoints_without_checksums_load(last: Path) -> None:
    expected = load_file(last / "weights.safetensors")
    found = checkpoint.load(older(last))
    assert found is not None
    method = fresh("xyz")  # they did not know their classes either
    found.into(method)
    for name, value in method.state_dict().items():
        assert value.equal(expected[name])


def test_weights_that_are_no_numbers_are_refused(last: Path) -> None:
    older(last, change=lambda w: w["classify.weight"][1].fill_(float("nan")))
    with pytest.raises(InputError, match=r"weights that are not finite: classify.weight"):
        checkpoint.load(last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_weights_of_another_type_of_number_are_refused(last: Path, dtype: torch.dtype) -> None:
    older(last, change=lambda w: w.update({"classify.weight": w["classify.weight"].to(dtype)}))
    found = checkpoint.load(last)
    assert found is not None
    with pytest.raises(InputError, match=f"classify.weight is {dtype}, expected torch.float32"):
        found.into(fresh())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.update({"classify.weight": w["classify.weight"].T.contiguous()}), "size mismatch"),
        (lambda w: w.pop("classify.bias"), "Missing key"),
        (lambda w: w.update({"more": torch.zeros(1)}), "Unexpected key"),
    ],
)
def test_weights_of_another_shape_are_refused(last: Path, change, says: str) -> None:  # type: ignore[no-untyped-def]
    older(last, change=change)
    found = checkpoint.load(last)
    assert found is not None
    with pytest.raises(InputError, match=says) as said:
        found.into(fresh())
    assert "\n" not in str(said.value)


def test_classes_in_another_order_are_refused(tmp_path: Path, linear_mil: str) -> None:
    run = Run.create(tmp_path, linear_mil, LinearMILConfig(), dim=6, classes=("a", "b", "c"))
    fit(run.build(), toy_data(), run.folder, device="cpu", progress=False)
    run.method()
    path = tmp_path / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for classes in (["b", "a", "c"], ["a", "b", "d"]):
        path.write_text(yaml.safe_dump(config | {"classes": classes}))
        with pytest.raises(InputError, match=r"meta.json: classes: .*\['a', 'b', 'c'\], expected"):
            Run.open(tmp_path).method()


def test_a_checkpoint_of_another_method_or_width_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    other = LinearMIL(LinearMILConfig(), dim=7, classes=("a", "b", "c"))
    with pytest.raises(InputError, match=r"belongs to another method or configuration: .*size mismatch"):
        fit(other, toy_data(dim=7), tmp_path, resume=True, device="cpu", progress=False)
    with pytest.raises(InputError, match=r"method: .* found linear_mil, expected lac"):
        fit(tiny.build("lac"), tiny.data("lac"), tmp_path, resume=True, device="cpu", progress=False)


STATES: list[dict[str, object]] = [
    {"position": None},
    {"position": {}},
    {"position": {"stage": 0, "step": 4}},
    {"position": {"stage": 0, "step": 4, "begun": True, "more": 1}},
    {"position": {"stage": -1, "step": 0, "begun": False}},
    {"position": {"stage": 0, "step": 1.5, "begun": True}},
    {"position": {"stage": "0", "step": 4, "begun": True}},
    {"position": {"stage": 0, "step": True, "begun": True}},
    {"position": {"stage": 9, "step": 0, "begun": False}},
    {"position": {"stage": 0, "step": 12, "begun": True}},
    {"position": {"stage": 2, "step": 1, "begun": True}},
    {"optimizer": 3},
    {"optimizer": {"state": {}, "param_groups": []}},
    {"optimizer": {}},
    {"training_state": []},
    {"training_state": {}},
    {"best": "high"},
    {"scaler": None},
]


def test_equal_states_are_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names in a resumed run were read, so that those that are equal are no longer one object."""
    one, other = "video_1", "".join(["video", "_1"])
    assert one is not other
    for folder, names in (("whole", [one, one]), ("resumed", [one, other])):
        method = fresh()
        monkeypatch.setattr(method, "training_state", lambda names=names: {"names": names})
        checkpoint.save(tmp_path / folder, method, None, Position(0, 1, True))
    assert (tmp_path / "whole/state.pt").read_bytes() == (tmp_path / "resumed/state.pt").read_bytes()


@pytest.mark.parametrize("change", STATES)
def test_a_state_of_another_shape_is_named(tmp_path: Path, last: Path, change: dict[str, object]) -> None:
    older(last)
    state = torch.load(last / "state.pt", weights_only=True)
    torch.save(state | change, last / "state.pt")
    shutil.move(last, tmp_path / "run/checkpoints/last")
    with pytest.raises(InputError, match=r"checkpoints/last: this checkpoint"):
        train(tmp_path / "run", resume=True)


def test_the_last_saving_of_a_run_is_finished_where_it_was_cut_between_its_renamings(tmp_path: Path) -> None:
    train(tmp_path)
    last = tmp_path / "checkpoints/last"
    weights = (last / "weights.safetensors").read_bytes()
    last.rename(checkpoint._siblings(last)[1])
    train(tmp_path, resume=True)
    assert (last / "weights.safetensors").read_bytes() == weights
    assert not checkpoint._siblings(last)[1].exists()


def test_a_checkpoint_is_read_where_nothing_may_be_changed(tmp_path: Path) -> None:
    """Leftovers of a saving that is going on, perhaps, stay where they are."""
    train(tmp_path)
    left = tmp_path / "checkpoints/.last.partial"
    left.mkdir()
    before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert checkpoint.load(tmp_path / "checkpoints/last") is not None
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before


def test_weights_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    """A gradient may overflow after a loss that was finite."""
    method = fresh()
    inner, count = method.training_step, iter(range(100))

    def step(batch):  # type: ignore[no-untyped-def]
        losses = inner(batch)
        if next(count) == 11:  # the last of its stage
            losses["total"] = losses["total"] + (method.classify.bias * 0).sum().sqrt()
        return losses

    method.training_step = step  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"not finite: .*classify.bias.*checkpoint is intact"):
        train(tmp_path, method, checkpoint_steps=6)
    found = checkpoint.load(tmp_path / "checkpoints/last")
    assert found is not None
    assert found.position == Position(0, 6, True)


def test_state_that_cannot_be_loaded_safely_is_refused(tmp_path: Path) -> None:
    method = fresh()
    method.training_state = lambda: {"memory": object()}  # type: ignore[method-assign]
    with pytest.raises(TypeError, match=r"state\.training_state\.memory holds a object"):
        train(tmp_path, method)
