"""Videos in which nothing occurs, and labels that need not be all, in the losses of every method."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.methods import tiny
from weaktal.core import Points, WeakLabels, WeakVideo
from weaktal.methods.protocol import TrainingData

# losses that learn from what occurs: they vanish where nothing does
FOREGROUND = {
    "asm_loc": ("foreground", "background_action"),
    "hr_pro": ("regression",),
    "hr_pro_snippets": ("frame", "contrast"),
    "issf": ("fore",),
    "lac": ("frame", "score", "feature"),
    "p_mil": ("attended", "consistency"),
    "sal": ("mil", "semantic"),
    "stcl_net": ("mil_suppressed", "coactivity", "contrast"),
    "tspnet": (),
}
# losses that learn from background: they stay
BACKGROUND = {
    "asm_loc": ("background",),
    "hr_pro": ("score",),
    "hr_pro_snippets": ("video", "background"),
    "issf": ("back", "attention"),
    "lac": ("video", "background"),
    "p_mil": ("video", "completeness"),
    "sal": ("background", "actionness"),
    "stcl_net": ("mil", "mil_intra", "mil_origin", "mil_inter", "norm", "guide"),
    "tspnet": ("point", "center"),
}
# the parameters that give a class its score, and the losses that learn it from labels
CLASSIFIER = {
    "asm_loc": ("networks.0.snippet_cls.weight", ("foreground", "background", "background_action")),
    "hr_pro_snippets": ("classifier.1.weight", ("video", "frame", "background")),
    "issf": ("network.ac_center", ("fore", "back")),
    "lac": ("cls_module.classifier.0.weight", ("video", "frame", "background")),
    "p_mil": ("prop_v_backbone.prop_classifier.2.weight", ("video", "attended")),
    "sal": ("cls.0.weight", ("mil",)),
    "stcl_net": ("network.classifier.4.weight", ("mil", "mil_origin")),
    "tspnet": ("prop_backbone.prop_classifier.2.weight", ("point",)),
}
# so that a batch holds no video of class 2
ALONE = {name: {"batch_size": 1} for name in CLASSIFIER} | {"stcl_net": {"batch_size": 2, "pairs": 1}}
METHODS = [name for name in tiny.NAMES if name in FOREGROUND]


def without(data: TrainingData, *videos: int) -> TrainingData:
    """The same data, where nothing occurs in some of the videos."""
    weak = tuple(
        WeakVideo(v.name, (), None if v.points is None else Points()) if i in videos else v
        for i, v in enumerate(data.weak.videos)
    )
    return replace(data, weak=WeakLabels(data.weak.classes, weak))


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_in_which_nothing_occurs(name: str) -> None:
    """All steps of every stage: most batches of these videos hold no class at all, some do."""
    data = without(tiny.data(name), 1, 2, 4, 5, 6, 7)
    method = tiny.build(name)
    kinds: set[bool] = set()
    for s, stage in enumerate(method.stages(data)):
        method.begin_stage(s, data)
        if not stage.steps:
            continue
        optimizer = method.optimizer(s)
        for step in range(stage.steps):
            method.before_step(s, step, data)
            method.train()
            batch = method.draw(s, step, data)
            losses = method.training_step(batch)
            assert all(bool(x.isfinite()) for x in losses.values()), losses
            if bool(batch.empty.all()):
                assert all(abs(losses[x].item()) < 1e-6 for x in FOREGROUND[name]), losses
                assert all(abs(losses[x].item()) > 0 for x in BACKGROUND[name]), losses
            kinds.add(bool(batch.empty.all()))
            torch.autograd.backward(losses["total"])
            grads = [p.grad for p in method.parameters() if p.grad is not None]
            assert all(bool(g.isfinite().all()) for g in grads)
            optimizer.step()
            optimizer.zero_grad()
    # STCL-Net begins every batch with pairs of one class
    assert kinds == ({False} if name == "stcl_net" else {True, False})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hr_pro_snippets", {}),
        ("lac", {}),
        ("sal", {"steps": 7}),
        ("stcl_net", {}),
        ("student", {}),
        ("tspnet", {}),
    ],
)
def test_a_schedule_that_counts_steps_shows_the_other_videos_as_often(
    name: str, settings: dict[str, int]
) -> None:
    data, method = tiny.data(name), tiny.build(name, **settings)
    all_labelled = method.stages(data)
    some = without(data, *range(len(data) // 3))
    share = len(data) / (len(data) - len(data) // 3)
    for short, long in zip(all_labelled, method.stages(some), strict=True):
        assert long.steps == math.ceil(share * short.steps)
        assert long.steps > short.steps or not short.steps
    # nothing to see as often: the schedule is what it says
    assert [s.steps for s in method.stages(without(data, *range(len(data))))] == [
        s.steps for s in all_labelled
    ]


@pytest.mark.parametrize("name", list(CLASSIFIER))
@pytest.mark.parametrize("unknown", [True, False])
def test_an_unknown_class_learns_nothing_from_labels(name: str, unknown: bool) -> None:
    """Class 2 may occur in any video in which nobody has named it: its absence is not learnt."""
    data = tiny.data(name)
    weak = tuple(
        v if 2 in v.labels else replace(v, labels=(0, 1), complete=not unknown) for v in data.weak.videos
    )
    data = replace(data, weak=WeakLabels(data.weak.classes, weak))
    method = tiny.build(name, **ALONE.get(name, {})).train()
    method.begin_stage(0, data)
    batch = next(b for s in range(99) if not (b := method.draw(0, s, data)).labels[:, 2].any())
    parameter, terms = CLASSIFIER[name]
    losses = method.training_step(batch)
    learnt = torch.stack([losses[t] for t in terms]).sum()
    (grad,) = torch.autograd.grad(learnt, method.get_parameter(parameter))
    assert float(grad[:2].abs().max()) > 1e-6
    assert (float(grad[2].abs().max()) > 1e-6) is not unknown
