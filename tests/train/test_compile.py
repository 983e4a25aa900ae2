"""``--compile``: the compiled training is the same, without breaks and without compiling for every batch.

What is tested is what differs between methods: that Dynamo traces the whole step, and into few graphs. Its
graphs are run by torch's own operators; WEAKTAL_COMPILE_BACKEND=inductor (`make soak`) runs what users run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.utils import counters

from tests.methods import tiny
from weaktal.train import fit

BACKEND = os.environ.get("WEAKTAL_COMPILE_BACKEND", "eager")
# what breaks a graph, as docs/training.md says: a part of Dynamo's reason
BY_VALUES = ["depends on input Tensor data", "dependent on the data of Tensor inputs", "Tensor.item()"]
BREAKS: dict[str, list[str]] = {
    "sal": ["FactoredLinear.forward"],
    "issf": BY_VALUES,
    "p_mil": ["pseudo_instances"],
}
# graphs of a whole training, breaks and stages included, if several. A size that varies is a symbol from the
# second batch on; 0 and 1 (no segment, a single one) have graphs of their own
GRAPHS = {
    "asm_loc": 5,
    "hr_pro_snippets": 6,
    "issf": 40,
    "lac": 4,
    "p_mil": 12,
    "sal": 6,
    "student": 2,
    "student_points": 3,
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def train(name: str, out: Path, **options: Any) -> list[dict[str, Any]]:
    """Train at a small size; the lines of the log."""
    no_dropout = {field: 0.0 for field in tiny.method_class(name).Config.model_fields if "dropout" in field}
    method = tiny.build(name, **(no_dropout if BACKEND == "inductor" else {}))
    if BACKEND == "inductor":  # it draws other masks
        for module in method.modules():
            if "Dropout" in type(module).__name__:
                module.p = 0.0
    fit(method, tiny.data(name), out, device="cpu", progress=False, **options)
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", tiny.NAMES)
def test_compiled_training_is_the_same_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage, to its end."""
    graphs: list[int] = []  # the steps in which they were compiled
    done = 0
    backend, compile = lookup_backend(BACKEND), torch.compile

    def note(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(done)
        return backend(graph, inputs)

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        inner = compile(step, backend=note)

        def call(batch: Any) -> Any:
            nonlocal done
            done += 1
            return inner(batch)

        return call

    expected = train(name, tmp_path / "eager")
    monkeypatch.setattr(torch, "compile", counted)
    found = train(name, tmp_path / "compiled", compile=True)

    assert done == len(expected) == len(found)
    for a, b in zip(found, expected, strict=True):
        assert a.pop("stage") == b.pop("stage")
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    reasons = [r for r in counters["graph_break"] if not any(b in r for b in BREAKS.get(name, []))]
    assert not reasons
    assert 0 < len(graphs) <= GRAPHS.get(name, 1), graphs
