"""``--compile``: the compiled training is the same training, without breaks and without compiling for every batch."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from tests.methods import tiny
from weaktal.train import fit

# what breaks a graph, as docs/training.md says: a part of dynamo's reason
BREAKS: dict[str, list[str]] = {
    "sal": ["FactoredLinear.forward"],
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def train(name: str, out: Path, **options: Any) -> list[dict[str, Any]]:
    """Train at a small size; the lines of the log."""
    fit(tiny.build(name), tiny.data(name), out, device="cpu", progress=False, **options)
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.pop("stage") == b.pop("stage")
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_compiled_training_is_the_same_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage, forward and backward traced; dropout too, as the graphs run torch's own operators."""
    graphs: list[int] = []  # the step in which each was compiled
    done = 0

    def note(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(done)
        return graph.forward

    compile = torch.compile

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        inner = compile(step, backend=aot_autograd(fw_compiler=note, bw_compiler=lambda g, _: g.forward))

        @functools.wraps(step)
        def call(batch: Any) -> Any:
            nonlocal done
            done += 1
            return inner(batch)

        return call

    expected = train(name, tmp_path / "eager")
    monkeypatch.setattr(torch, "compile", counted)
    found = train(name, tmp_path / "compiled", compile=True)
    close(found, expected)
    reasons = [r for r in counters["graph_break"] if not any(b in r for b in BREAKS.get(name, []))]
    assert not reasons
    assert done == len(expected)
    assert graphs
    # sizes that vary are symbols once they have varied: in the second half of a stage nothing compiles
    first = {s: min(i for i, x in enumerate(expected, 1) if x["step"] == 0) for s in ["any"]}
    assert first
