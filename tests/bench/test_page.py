"""Runs side by side: how they are grouped, and the page, also in a real browser."""

from __future__ import annotations

import json
import random
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.bench.runs import found_in, make_run
from tests.bench.toy import toy_dataset
from weaktal import Dataset, compare_runs, run_bench
from weaktal.bench.groups import differing, find_runs, grouped
from weaktal.cli import main
from weaktal.evaluate import differences, holm, intervals
from weaktal.methods.lac import LACConfig

NARROW = {"hidden": 32}
WIDE = f"lac hidden {LACConfig().hidden}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return toy_dataset(tmp_path)


@pytest.fixture
def runs(tmp_path: Path, data: Path) -> Path:
    """Two settings of one method, and another method; two seeds each."""
    root = tmp_path / "runs"
    for seed in (0, 1):
        make_run(root / f"wide{seed}", data, "lac", seed, slack=2.0, best=1.0)
        make_run(root / f"narrow{seed}", data, "lac", seed, settings=NARROW, slack=4.0, best=3.0)
        make_run(root / f"sal{seed}", data, "sal", seed, slack=9.0, best=6.0)
    return root


def table(page: str, id: str) -> list[list[str]]:
    """Texts of a table's cells, headings first."""
    text = re.search(rf'<table id="{id}".*?</table>', page, re.DOTALL)
    assert text is not None, id
    rows = re.findall(r"<tr.*?</tr>", text[0], re.DOTALL)
    cells = [re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL) for row in rows]
    return [[unescape(re.sub(r"<[^>]*>", "", c)).strip() for c in row] for row in cells]


def column(rows: list[list[str]], name: str) -> list[str]:
    at = rows[0].index(name)
    return [row[at] for row in rows[1:]]


# ------------------------------------------------------------------------------------------ groups


def test_runs_are_grouped_by_what_differs(runs: Path) -> None:
    groups = grouped([runs])
    assert {g.name: [m.folder.name for m in g.members] for g in groups} == {
        WIDE: ["wide0", "wide1"],
        "lac hidden 32": ["narrow0", "narrow1"],
        "sal": ["sal0", "sal1"],
    }
    assert {g.data for g in groups} == {"toy"}
    told = differing(groups)
    assert set(told) == {"method", "hidden"}
    of = dict(zip((g.name for g in groups), told["hidden"], strict=True))
    assert of == {WIDE: str(LACConfig().hidden), "lac hidden 32": "32", "sal": ""}  # sal's is no difference


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({"recipe": "own"}, 1),
        ({"training": {"evaluate_every": 3, "device": "cuda", "max_memory": "1GiB"}}, 1),
        ({"training": {"precision": "bf16-mixed"}}, 2),
        ({"settings": {"lr": 0.5}}, 2),
        ({"method": "hr_pro"}, 2),
    ],
)
def test_what_decides_results_makes_a_group(
    tmp_path: Path, data: Path, changes: dict[str, Any], groups: int
) -> None:
    make_run(tmp_path / "a", data, seed=0, localized=False)
    make_run(tmp_path / "b", data, seed=1, localized=False, **changes)
    found = grouped([tmp_path / "a", tmp_path / "b"])
    assert len(found) == groups
    assert len({g.name for g in found}) == groups


def test_groups_do_not_depend_on_the_order_of_runs(runs: Path) -> None:
    folders = find_runs([runs])
    first = {g.name: [m.folder for m in g.members] for g in grouped(folders)}
    random.Random(0).shuffle(folders)
    assert {g.name: [m.folder for m in g.members] for g in grouped(folders)} == first


def test_names_are_as_short_as_tells_apart(tmp_path: Path, data: Path) -> None:
    for i, settings in enumerate(({}, {"lr": 0.5}, {"lr": 0.5, "batch_size": 3})):
        make_run(tmp_path / str(i), data, settings=settings, localized=False)
    names = sorted(g.name for g in grouped([tmp_path]))
    assert len(set(names)) == 3
    assert all("lr" in name and "batch_size" in name for name in names)


def test_two_test_lists_of_one_name_are_two_sections(tmp_path: Path, data: Path) -> None:
    make_run(tmp_path / "a", data)
    other = tmp_path / "other"
    shutil.copytree(data.parent / "features", other / "features")
    gt = json.loads((data.parent / "gt.json").read_text())
    del gt["database"]["v7"]
    (other / "gt.json").write_text(json.dumps(gt))
    shutil.copy(data, other / "data.yaml")
    make_run(tmp_path / "b", other / "data.yaml", seed=1)
    names = {g.data for g in grouped([tmp_path / "a", tmp_path / "b"])}
    assert names == {"toy (4 videos, 4 instances)", "toy (3 videos, 3 instances)"}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("classes", "know different classes.*also class9"),
        ("twice", "the same run is named twice"),
        ("none", "there is no run here"),
        ("damaged", r"metrics.json.*line 1"),
        ("foreign", "this is no metrics.json of a run: Field required"),
        ("protocol", "evaluated in other ways.*wtalc"),
    ],
)
def test_what_cannot_stand_side_by_side(
    tmp_path: Path, data: Path, what: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "a", data)
    b = tmp_path / "b"
    make_run(b, data, seed=1, classes=("class0", "class9") if what == "classes" else None)
    named = [tmp_path / "a", b]
    if what == "twice":
        named.append(b / ".." / "b")
    elif what == "none":
        named.append(data.parent / "features")
    elif what == "damaged":
        (b / "metrics.json").write_text("{")
    elif what == "foreign":
        (b / "metrics.json").write_text("{}")
    elif what == "protocol":
        metrics = json.loads((b / "metrics.json").read_text()) | {"protocol": "wtalc"}
        (b / "metrics.json").write_text(json.dumps(metrics))
    out = tmp_path / "out"
    assert main(["bench", "--runs", *map(str, named), "--out", str(out)]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not out.exists(), "nothing half-written"


def test_a_plan_or_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["plan.yaml", "--runs", "x"]):
        assert main(["bench", *words, "--out", str(tmp_path)]) == 2
        assert "either a plan or --runs" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- page


def test_the_page_has_the_numbers_of_the_table(runs: Path, tmp_path: Path) -> None:
    found = compare_runs([runs], tmp_path / "out", resamples=50)
    page = found.page.read_text(encoding="utf-8")
    shown = table(page, "data-0-table")
    lines = [
        line.strip("| ").split(" | ") for line in found.table.read_text().splitlines()[2:] if "|" in line
    ]
    assert [row[2:-1] for row in shown[1:]] == [line[4:] for line in lines]
    assert column(shown, "group") == [line[1] for line in lines]
    # and those are the means and deviations of the runs
    wide = [json.loads((runs / f"wide{s}/metrics.json").read_text())["last"]["average_mAP"] for s in (0, 1)]
    row = next(r for r in shown[1:] if r[0] == WIDE and r[1] == "last")
    assert row[shown[0].index("average")] == f"{100 * np.mean(wide):.1f} ± {100 * np.std(wide, ddof=1):.1f}"
    each = table(page, "data-0-runs")
    assert sorted(column(each, "last")) == sorted(
        f"{100 * json.loads(p.read_text())['last']['average_mAP']:.2f}" for p in runs.glob("*/metrics.json")
    )
    # average precision per class: mean over thresholds and runs
    ap = [json.loads((runs / f"sal{s}/metrics.json").read_text())["last"] for s in (0, 1)]
    classes = table(page, "data-0-classes")
    expected = 100 * np.mean([np.mean(m["ap"], axis=0) for m in ap], axis=0)
    assert column(classes, "sal")[:-1] == [f"{v:.1f}" for v in expected]
    assert column(classes, "sal")[-1] == f"{100 * np.mean([m['average_mAP'] for m in ap]):.1f}"


def test_tests_are_paired_and_of_the_last_checkpoints(runs: Path, data: Path, tmp_path: Path) -> None:
    page = compare_runs([runs], tmp_path / "out", resamples=60).page.read_text(encoding="utf-8")
    rows = table(page, "data-0-differences")
    truth = Dataset.load(data).subset("test")
    found = {slack: [found_in(Dataset.load(data), s, slack) for s in (0, 1)] for slack in (4.0, 9.0)}
    d = differences(found[4.0], found[9.0], truth, resamples=60).average
    (row,) = [r for r in rows if r[0] == "sal minus lac hidden 32"]
    assert row[1:4] == [
        f"{100 * d.value:+.1f}", f"{100 * d.low:+.1f} to {100 * d.high:+.1f}", f"{d.p_value:.3f}"
    ]  # fmt: skip
    assert len(rows) == 1 + 3
    raw = [float(p) for p in column(rows, "p")]
    assert [float(p) for p in column(rows, "p (Holm)")] == pytest.approx(holm(raw), abs=0.003)


def test_one_run(tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "run", data)
    page = compare_runs(run, tmp_path / "out", resamples=40).page.read_text(encoding="utf-8")
    shown = table(page, "data-0-table")
    sure = intervals(found_in(Dataset.load(data), 0, 3.0), Dataset.load(data).subset("test"), resamples=40)
    assert shown[1][-1] == f"{100 * sure.average.low:.1f} to {100 * sure.average.high:.1f}"
    assert "±" not in "".join(shown[1])
    for absent in ("Differences", "What differs", "Range", "standard deviation to either side"):
        assert absent not in page


def test_what_is_not_done_is_told_and_in_no_figure(runs: Path, data: Path, tmp_path: Path) -> None:
    before = table(compare_runs([runs], tmp_path / "before", resamples=0).page.read_text(), "data-0-table")
    make_run(runs / "broken", data, "sal", 2, diverges=True, localized=False)
    make_run(runs / "young", data, "sal", 3, steps=7, localized=False)
    page = compare_runs([runs], tmp_path / "after", resamples=0).page.read_text(encoding="utf-8")
    assert sorted(table(page, "data-0-table")) == sorted(before)
    told = dict(
        zip(
            column(table(page, "data-0-runs"), "seed"),
            column(table(page, "data-0-runs"), "state"),
            strict=True,
        )
    )
    assert told["2"] == "diverged at step 39"
    assert told["3"] == "not evaluated, 7 training steps"
    assert "2 of 4 runs are not done (seed 2: diverged at step 39; seed 3: not evaluated" in page
    assert not re.search(r'[ "(]nan[ ",)]', page)


def test_nothing_is_done(tmp_path: Path, data: Path) -> None:
    plan = {"data": {"toy": str(data)}, "methods": {"lac": {}}, "seeds": [0, 1]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    found = run_bench(tmp_path / "plan.yaml", tmp_path / "out", only_table=True)
    page = found.page.read_text(encoding="utf-8")
    assert found.rows == ()
    assert "0 of 2 done" in page
    assert column(table(page, "data-0-runs"), "state") == ["not begun", "not begun"]


def test_a_run_that_was_only_localized_is_evaluated(tmp_path: Path, data: Path) -> None:
    done = make_run(tmp_path / "done", data)
    make_run(tmp_path / "localized", data, evaluated=False, settings=NARROW)
    found = compare_runs([done.folder, tmp_path / "localized"], tmp_path / "out", resamples=0)
    assert [row.mean for row in found.rows] == [found.rows[0].mean] * 2


def test_data_that_went_elsewhere_cost_the_intervals_alone(runs: Path, data: Path, tmp_path: Path) -> None:
    whole = table(compare_runs([runs], tmp_path / "a", resamples=30).page.read_text(), "data-0-table")
    data.rename(tmp_path / "moved.yaml")
    page = compare_runs([runs], tmp_path / "b", resamples=30).page.read_text(encoding="utf-8")
    assert [row[:-1] for row in whole] == table(page, "data-0-table")
    assert "no intervals" in page


def test_a_plan_names_its_groups_and_names_are_escaped(tmp_path: Path, data: Path) -> None:
    plan = {
        "data": {"a": str(data), "b <i>": str(data)},
        "methods": {"base <b>": {"method": "lac"}, "narrow": {"method": "lac", "set": NARROW}},
        "seeds": [0, 1],
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    out = tmp_path / "out"
    for name in plan["data"]:
        for seed in (0, 1):
            make_run(out / "runs" / name / "base <b>" / f"seed{seed}", data, seed=seed)
            make_run(out / "runs" / name / "narrow" / f"seed{seed}", data, seed=seed, settings=NARROW)
    page = run_bench(tmp_path / "plan.yaml", out, only_table=True, resamples=20).page.read_text(
        encoding="utf-8"
    )
    assert "<b>" not in re.sub(r"<b>average mAP in %</b>|<b>points of average mAP</b>", "", page)
    assert "base &lt;b&gt;" in page
    assert table(page, "overview")[0] == ["group", "a", "b <i>"]
    assert [row[0] for row in table(page, "overview")[1:]] == ["base <b>", "narrow"]
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page), "nothing is fetched"


# ----------------------------------------------------------------------------------------- browser


@pytest.fixture
def written(runs: Path, data: Path, tmp_path: Path) -> Path:
    make_run(runs / "broken", data, "sal", 2, diverges=True, localized=False)
    return compare_runs([runs], tmp_path / "out", resamples=30).page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser: Any, written: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for width in (1280, 390):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page, problems, asked = context.new_page(), list[str](), list[str]()
        page.on("pageerror", lambda error, into=problems: into.append(str(error)))
        page.on("console", lambda message, into=problems: into.append(message.text))
        page.on("request", lambda request, into=asked: into.append(request.url))
        page.goto(written.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing beside the screen"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 25)"
        assert dark == (scheme == "dark")
        violations = Axe().run(page).response["violations"]
        assert {v["id"]: [n["html"][:200] for n in v["nodes"]] for v in violations} == {}, width
        assert problems == []
        assert asked == [written.as_uri()]
        context.close()


def test_tables_sort_by_mouse_and_keyboard(browser: Any, written: Path) -> None:
    page = browser.new_page()
    page.goto(written.as_uri())

    def shown(name: str) -> list[str]:
        rows = page.eval_on_selector_all(
            "#data-0-runs tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent.trim()))"
        )
        return column(rows, name)

    given = shown("last")
    heading = page.locator("#data-0-runs thead button", has_text="last")
    heading.click()
    numbers = [float(v) for v in shown("last") if v != "-"]
    assert numbers == sorted(numbers, reverse=True)
    assert shown("last")[-1] == "-", "what is not known comes last"
    assert page.locator("#data-0-runs th[aria-sort=descending]").inner_text() == "last"
    page.keyboard.press("Enter")
    numbers = [float(v) for v in shown("last") if v != "-"]
    assert numbers == sorted(numbers)
    assert shown("last")[-1] == "-"
    page.keyboard.press("Space")
    assert shown("last") == given
    page.locator("#data-0-runs thead button", has_text="state").click()
    assert shown("state") == sorted(shown("state"))
    page.close()


def test_the_page_prints_on_white(browser: Any, written: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(written.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 35, 48)"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
