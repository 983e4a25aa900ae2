"""Which of several trainings is the better one, told without test labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weaktal.core import InputError, SnippetScores, WeakLabels
from weaktal.methods.protocol import Method, SnippetMethod, TrainingData
from weaktal.train.data import at_device
from weaktal.train.inference import score_videos

LIKELIHOOD = "likelihood"  # TL among what an evaluation finds
LEAST = 1e-8  # a class score below this counts as this


def training_likelihood(method: Method, data: TrainingData) -> float:
    """TL: the mean log of the video-level class score at the known labels of the training videos.

    Scored in evaluation mode: whole videos, no dropout, which training itself never sees. TL ranks trainings
    of one method with the same settings on the same videos; it is no threshold, and between methods or
    settings, which scale their scores in other ways, it says nothing. docs/trust.md measures how well it
    ranks.

    Args:
        method: trained, one that scores snippets; its mode is afterwards what it was.
        data: what it was trained on.

    Returns:
        At most 0; higher is better.

    Raises:
        InputError: the method has no video-level scores, or no video has a label.
    """
    if not isinstance(method, SnippetMethod):
        raise InputError(
            f"{method.name} re-scores segments and has no class scores of whole videos to choose by",
            hint="choose its base locator, and give that one's segments with --proposals",
        )
    training = method.training
    bank = at_device(data.bank, next(method.parameters()).device)
    scores = score_videos(method.eval(), bank)
    method.train(training)
    return label_likelihood(scores, data.weak)


def label_likelihood(scores: Sequence[SnippetScores], weak: WeakLabels) -> float:
    """The mean log of the video-level class scores at known labels.

    Args:
        scores: of the videos of `weak`, in their order.
        weak: what classes they have.

    Raises:
        InputError: no video has a label.
    """
    labels = weak.multi_hot() > 0
    if not labels.any():
        raise InputError("no training video has a label", hint="there is nothing to choose by")
    found = np.stack([s.video_scores for s in scores])[labels]
    return float(np.log(np.clip(found, LEAST, 1.0)).mean())
