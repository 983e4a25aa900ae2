"""Benches: plans, runs that are resumed and isolated, the table."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.bench.toy import TINY, toy_dataset
from weaktal.bench.execute import execute
from weaktal.bench.groups import planned_groups
from weaktal.bench.plan import Job, Plan
from weaktal.bench.table import markdown, rows
from weaktal.core import InputError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return toy_dataset(tmp_path)


def plan_file(folder: Path, dataset: Path, **changes: object) -> Path:
    values = {
        "data": {"toy": {"path": str(dataset), "published": "thumos14"}},
        "methods": {"asm_loc": {"set": TINY}},
        "seeds": [0, 1],
        "evaluate_every": 1,
        "device": "cpu",
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def test_a_bench_runs_resumes_and_makes_its_table(tmp_path: Path, dataset: Path) -> None:
    methods = {"asm_loc": {"set": TINY}, "broken": {"method": "asm_loc", "set": TINY, "proposals": "no.json"}}
    plan = Plan.load(plan_file(tmp_path, dataset, methods=methods))
    out, said = tmp_path / "out", list[str]()
    failed = execute(plan, out, jobs=4, say=said.append)
    assert set(failed) == {Job("toy", "broken", 0), Job("toy", "broken", 1)}
    assert any("failed with code 2" in text and "no.json" in text for text in said)
    first = [out / Job("toy", "asm_loc", s).folder / "metrics.json" for s in (0, 1)]
    times = [p.stat().st_mtime_ns for p in first]
    # again: what is done stays, what failed is tried again
    alone = Plan.load(plan_file(tmp_path, dataset))
    said.clear()
    assert execute(alone, out, jobs=4, say=said.append) == []
    assert said == ["2 runs are done, 0 to do"]
    assert [p.stat().st_mtime_ns for p in first] == times

    found = {row.kind: row for row in rows(planned_groups(alone, out))}
    assert list(found) == ["last", "weak", "best-on-test", "difference", "published"]
    averages = [100 * json.loads(p.read_text())["average_mAP"] for p in first]
    assert found["best-on-test"].mean["average"] == pytest.approx(np.mean(averages))
    assert found["best-on-test"].std is not None
    assert found["best-on-test"].std["average"] == pytest.approx(np.std(averages, ddof=1))
    assert found["difference"].mean["average"] >= -1e-9
    assert found["published"].mean["0.5"] == 36.8
    assert "| toy | asm_loc | published | - | - | 71.1 |" in markdown(list(found.values()))


def test_another_plan_in_the_same_folder_is_refused(tmp_path: Path, dataset: Path) -> None:
    nothing: dict[str, object] = {"seeds": []}
    execute(Plan.load(plan_file(tmp_path, dataset, **nothing)), tmp_path / "out")
    changed = {"asm_loc": {"set": {**TINY, "epochs": 4}}}
    with pytest.raises(InputError, match="other settings"):
        execute(Plan.load(plan_file(tmp_path, dataset, methods=changed, **nothing)), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {}}, "did you mean 'methods'"),
        ({"methods": {"asm_lok": {}}}, "did you mean 'asm_loc'"),
        ({"methods": {"asm_loc": {"set": {"epoch": 3}}}}, "did you mean 'epochs'"),
        ({"methods": {"asm_loc": {"recipe": "thumos15"}}}, "no such recipe"),
        ({"data": {"toy": {"path": "x", "published": "thumos13"}}}, "no published figures"),
        ({"seeds": "many"}, "seeds"),
    ],
)
def test_a_wrong_plan_is_named(
    tmp_path: Path, dataset: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Plan.load(plan_file(tmp_path, dataset, **changes))


def test_settings_reach_the_command_line_as_they_are(tmp_path: Path, dataset: Path) -> None:
    from weaktal.cli.options import setting

    settings = {
        "learning_rate": 3e-4,
        "pseudo_on_cas": [0.1, 0.2, 0.05],
        "detect_on_cas": None,
        "warp": False,
    }
    plan = Plan.load(plan_file(tmp_path, dataset, methods={"a": {"method": "asm_loc", "set": settings}}))
    command = plan.command(Job("toy", "a", 0), tmp_path)
    given = [b for a, b in pairwise(command) if a == "--set"]
    assert dict(map(setting, given)) == settings
