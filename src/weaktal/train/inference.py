"""A trained method over whole videos, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from weaktal.core import Detections, Grid, InputError, SnippetScores, TimeAxis
from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import Batch, Method, ProposalBatch, SnippetMethod, whole_videos
from weaktal.nn.parallel import paused

ROWS = 16_384  # snippets of a batch, padding included


def batches(lengths: NDArray[np.int64], rows: int = ROWS) -> Iterator[NDArray[np.int64]]:
    """Videos in batches of similar length.

    Args:
        lengths: (V,) snippets per video.
        rows: most snippets of a padded batch; a longer video is a batch of its own.

    >>> [b.tolist() for b in batches(np.array([5, 100, 4, 6]), rows=15)]
    [[2, 0], [3], [1]]
    """
    order = np.argsort(lengths, kind="stable")
    begin = 0
    for i in range(1, len(order) + 1):
        # sorted, so the video at i would set the padded length
        if i == len(order) or (i + 1 - begin) * lengths[order[i]] > rows:
            yield order[begin:i]
            begin = i


def whole_batches(method: Method, bank: FeatureBank, rows: int = ROWS) -> Iterator[Batch]:
    """Padded batches of all videos of a bank at the method's device, labels unknown."""
    device = next(method.parameters()).device
    for video in batches(bank.lengths, rows):
        labels = torch.zeros(len(video), len(method.classes))
        yield whole_videos(bank, video, labels).to(device)


def with_grid(detections: Detections, axes: Sequence[TimeAxis]) -> Detections:
    """The same detections, with the grid of snippets on which they were found, if all videos have one grid.

    Times on it lose their last bits as seconds; `weaktal.evaluate.evaluate` puts them back.
    """
    starts = {round(axis.start, 9) for axis in axes}
    rates = np.array([axis.length / (axis.end - axis.start) for axis in axes])
    even = all(len(axis.positions) == 2 for axis in axes)
    if not even or len(starts) != 1 or np.ptp(rates) > 1e-9 * rates.max():
        return detections
    return replace(detections, grid=Grid(float(f"{rates[0]:.12g}"), starts.pop()))


@paused()
@torch.no_grad()
def score_videos(method: SnippetMethod, bank: FeatureBank, *, rows: int = ROWS) -> list[SnippetScores]:
    """Snippet scores of all videos, in the order of the bank; of several processes, each works alone.

    Args:
        method: in evaluation mode.
        bank: features.
        rows: see `batches`.
    """
    found = {s.video: s for batch in whole_batches(method, bank, rows) for s in method.score(batch)}
    return [found[name] for name in bank.names]


@paused()
@torch.no_grad()
def detect_videos(
    method: Method, bank: FeatureBank, *, proposals: Detections | None = None, rows: int = ROWS
) -> Detections:
    """Detections in all videos, ordered by the videos of the bank.

    Args:
        method: in evaluation mode.
        bank: features.
        proposals: segments of a base locator, for proposal-level methods.
        rows: see `batches`.

    Raises:
        InputError: there are proposals, and none in these videos.
    """
    if isinstance(method, SnippetMethod):
        return method.localize(score_videos(method, bank, rows=rows))
    batches_ = whole_batches(method, bank, rows)
    if proposals is not None and method.base_at_test:
        if len(proposals) and not {proposals.names[i] for i in set(proposals.video.tolist())} & set(
            bank.names
        ):
            raise InputError(
                "no proposal belongs to one of these videos",
                found=", ".join(proposals.names[:3]),
                expected=", ".join(bank.names[:3]),
                hint="give the proposals of this subset with --proposals",
            )
        batches_ = (ProposalBatch.of(b, proposals) for b in batches_)
    return in_order((method.detect(b) for b in batches_), method, bank)


def in_order(parts: Iterable[Detections], method: Method, bank: FeatureBank) -> Detections:
    """Detections of several batches, ordered by the videos of the bank; rows of a video keep their order."""
    found = Detections.concatenate([Detections.empty(bank.names, method.classes), *parts], method.classes)
    return found[np.argsort(found.video, kind="stable")]
