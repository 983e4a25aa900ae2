"""Runs of earlier versions still open, resume and give what they gave.

`runs/METHOD/` was written by the code of 165a875 (November 2026), at the sizes of `tests.methods.tiny`:
``whole`` is a finished run, ``half`` one that was stopped after its fifth step, ``expected.npz`` what
``whole`` detected in the toy videos.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.methods import tiny
from weaktal.methods.protocol import ProposalBatch, SnippetMethod
from weaktal.train import Run, fit

RUNS = Path(__file__).parent / "runs"
NAMES = sorted(p.name for p in RUNS.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_run_detects_what_it_did(name: str) -> None:
    data = tiny.data(name)
    method = Run.open(RUNS / name / "whole").method()
    batch = data.whole(np.arange(len(data)))
    if not isinstance(method, SnippetMethod):
        assert data.proposals is not None
        batch = ProposalBatch.of(batch, data.proposals)
    with torch.no_grad():
        found = method.detect(batch)
    with np.load(RUNS / name / "expected.npz") as expected:
        assert np.array_equal(found.video, expected["video"])
        assert np.array_equal(found.label, expected["label"])
        for column in ("start", "end", "score"):
            np.testing.assert_allclose(getattr(found, column), expected[column], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_goes_on(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RUNS / name / "half", folder)
    run, data = Run.open(folder), tiny.data(name)
    method = run.build()
    summary = fit(method, data, folder, resume=True, device="cpu", progress=False)
    assert 0 < summary.steps == sum(s.steps for s in method.stages(data)) - 4
    assert len(run.method().state_dict()) == len(method.state_dict())
