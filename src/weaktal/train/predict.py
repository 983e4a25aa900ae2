"""A trained method on videos that are nobody's data set: long ones in pieces, others whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import Method, ProposalBatch, SnippetMethod, whole_videos
from weaktal.train.members import joined, open_members
from weaktal.train.run import FUSED, Run

FloatArray = NDArray[np.float32]

MOST = 16_384  # snippets that a network sees at once without being asked
OVERLAP = 128  # snippets that neighbouring pieces share: more than any network here looks to one side
BLOCK = 512  # snippets in a row, where a very long video is summed up
CLEAR = 0.7  # of a video's best score; see docs/videos.md
# what says how features were made; other entries of a header (file names, versions) do not change them
MATTER = ("backbone", "rate", "window", "stride", "offset", "short_side", "long_side", "crop", "flow")


def feature_difference(trained_on: Mapping[str, Any], offered: Mapping[str, Any]) -> str | None:
    """In words, where features differ from those that a run was trained on; None where they do not.

    Args:
        trained_on, offered: what is known of the features. An entry that either of them lacks is not
            compared; of weights, the checksums are.

    >>> feature_difference({"backbone": "i3d", "rate": 1.5625}, {"backbone": "motion", "rate": 1.5625})
    'backbone motion, trained on i3d'
    """
    differences = []
    for key in (*MATTER, *sorted(set(trained_on) & set(offered) - set(MATTER))):
        old, new = trained_on.get(key), offered.get(key)
        if key not in trained_on or key not in offered or key in ("layout", "format", "extractor"):
            continue
        if key == "dims":
            old, new = _widths(old), _widths(new)
        if key == "weights" and isinstance(old, Mapping) and isinstance(new, Mapping):
            old, new = ({s: _checksum(w) for s, w in weights.items()} for weights in (old, new))
        close = (
            isinstance(old, float) and isinstance(new, int | float) and math.isclose(old, new, rel_tol=1e-6)
        )
        if old != new and not close:
            differences.append(f"{key} {new}, trained on {old}")
    return "; ".join(differences) or None


def _widths(dims: Any) -> list[int]:
    return list(dims.values() if isinstance(dims, Mapping) else dims)


def _checksum(weights: Any) -> Any:
    return weights.get("sha256", weights) if isinstance(weights, Mapping) else weights


def piece_starts(length: int, chunk: int, overlap: int) -> list[int]:
    """First rows of pieces of `chunk` rows that cover `length` rows, each sharing `overlap` or more.

    >>> piece_starts(25, 10, 4)
    [0, 6, 12, 15]
    """
    if length <= chunk:
        return [0]
    return [*range(0, length - chunk, chunk - overlap), length - chunk]


@torch.no_grad()
def score_video(
    method: SnippetMethod,
    name: str,
    features: FloatArray,
    axis: TimeAxis,
    *,
    chunk: int | None = None,
    overlap: int = OVERLAP,
) -> SnippetScores:
    """Scores of one video, in pieces where it is long.

    Snippet scores of pieces are joined in the middle of what neighbours share, so they equal those of the
    whole video as long as a network looks at no more than ``overlap / 2`` snippets to each side. Video-level
    scores come from the whole video, up to 16,384 snippets, and above that from blocks spread evenly over it;
    so they do not depend on the pieces. (A method that samples long videos down by itself, as ASM-Loc does
    above its `snippets`, sees each piece at a finer rate than the whole.)

    Args:
        method: in evaluation mode.
        name: the video.
        features: (L, D).
        axis: of L rows.
        chunk: snippets per piece; None for the whole video, or 8,192 where it is longer than 16,384.
        overlap: snippets that neighbouring pieces share; at most half a piece is used.
    """
    length = len(features)
    whole_fits = length <= MOST
    if chunk is None and whole_fits:
        return _score(method, name, features, axis)
    chunk = chunk or MOST // 2
    if chunk >= length:
        return _score(method, name, features, axis)
    overlap = min(overlap, chunk // 2)
    starts = piece_starts(length, chunk, overlap)
    # a piece counts from the middle of what it shares with the one before, to the middle of the next
    cuts = [(a + chunk + b) // 2 for a, b in pairwise(starts)]
    parts = []
    for start, low, high in zip(starts, [0, *cuts], [*cuts, length], strict=True):
        piece = _stretch(axis, start, start + chunk)
        scores = _score(method, name, features[start : start + chunk], piece)
        centers = axis.positions_at(scores.axis.centers())
        parts.append((scores, np.flatnonzero((centers >= low) & (centers < high))))
    if whole_fits:
        summary = _score(method, name, features, axis)
    else:
        first = np.linspace(0, length - BLOCK, MOST // BLOCK).astype(np.int64)
        rows = (first[:, None] + np.arange(BLOCK)).reshape(-1)
        summary = _score(method, name, features[rows], _stretch(axis, 0, len(rows)))
    cas = np.concatenate([s.cas[keep] for s, keep in parts])
    if len(cas) == length:
        joined = axis
    else:  # the method sampled the pieces: every row starts where its piece's axis says
        edges = [s.axis.seconds_at(keep) for s, keep in parts]
        seconds = np.append(np.concatenate(edges), axis.end)
        seconds = np.maximum.accumulate(seconds + 1e-9 * np.arange(len(seconds)))
        joined = TimeAxis(len(cas), np.arange(len(cas) + 1.0), seconds)
    foreground = np.concatenate([s.foreground[keep] for s, keep in parts])
    return SnippetScores(name, cas, foreground, summary.video_scores, joined)


def _stretch(axis: TimeAxis, start: int, end: int) -> TimeAxis:
    """The axis of the rows [start, end)."""
    return TimeAxis(end - start, np.array([0.0, end - start]), axis.seconds_at([start, end]))


def _bank(name: str, features: FloatArray, axis: TimeAxis) -> FeatureBank:
    data = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    return FeatureBank((name,), data, np.array([0, len(features)]), (axis,))


def _score(method: SnippetMethod, name: str, features: FloatArray, axis: TimeAxis) -> SnippetScores:
    bank = _bank(name, features, axis)
    labels = torch.zeros(1, len(method.classes))
    batch = whole_videos(bank, np.zeros(1, np.int64), labels).to(next(method.parameters()).device)
    return method.score(batch)[0]


class Predictor:
    """A run, ready for any video.

    Args:
        run: the run directory.
        device: where the networks run.
        chunk: see `score_video`.

    Raises:
        InputError: the run has no checkpoint; a method that re-scores segments lacks its base locator.
    """

    def __init__(self, run: Run, device: torch.device | str = "cpu", *, chunk: int | None = None) -> None:
        if chunk is not None and chunk < 2:
            raise InputError("a piece has at least 2 snippets", found=chunk)
        self.run, self.chunk = run, chunk
        self.method: Method = run.method().to(device)
        self.base: Method | None = None
        if not isinstance(self.method, SnippetMethod) and self.method.base_at_test:
            folder = run.folder / "base"
            if not folder.is_dir():
                raise InputError(
                    f"{run.config.method} re-scores segments of a base locator, and this run has none",
                    file=folder,
                    hint="train it together with its base locator",
                )
            self.base = Run.open(folder).method().to(device)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.method.classes

    @torch.no_grad()
    def __call__(
        self, name: str, features: FloatArray, axis: TimeAxis
    ) -> tuple[Detections, SnippetScores | None]:
        """Detections in one video, and its snippet scores where the method has them."""
        if features.shape[1] != self.run.config.dim:
            raise InputError(
                "the features are of another width than the method's",
                field=name,
                found=features.shape[1],
                expected=self.run.config.dim,
            )
        if isinstance(self.method, SnippetMethod):
            scores = score_video(self.method, name, features, axis, chunk=self.chunk)
            return self.method.localize([scores]), scores
        bank = _bank(name, features, axis)
        batch = whole_videos(bank, np.zeros(1, np.int64), torch.zeros(1, len(self.classes)))
        batch = batch.to(next(self.method.parameters()).device)
        if self.base is None:
            return self.method.detect(batch), None
        assert isinstance(self.base, SnippetMethod)
        scores = score_video(self.base, name, features, axis, chunk=self.chunk)
        return self.method.detect(ProposalBatch.of(batch, self.base.candidates([scores]))), scores


class FusedPredictor:
    """A fused run, ready for any video.

    Args:
        run: the fused run.
        device, chunk: see `Predictor`.

    Raises:
        InputError: as from `Predictor`; members that were trained on different features.
    """

    def __init__(self, run: Run, device: torch.device | str = "cpu", *, chunk: int | None = None) -> None:
        self.run, self.members = run, open_members(run)
        first = self.members[0].config
        for member in self.members[1:]:
            difference = feature_difference(*(c.data.get("features") or {} for c in (first, member.config)))
            if difference is None and member.config.dim != first.dim:
                difference = f"width {member.config.dim}, trained on {first.dim}"
            if difference:
                raise InputError(
                    "the members of this run were trained on different features; of a video one kind is made",
                    file=member.folder,
                    found=difference,
                    hint="predict with each of them, or fuse runs of the same features",
                )
        self.each = [Predictor(m, device, chunk=chunk) for m in self.members]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.run.config.classes

    def __call__(
        self, name: str, features: FloatArray, axis: TimeAxis
    ) -> tuple[Detections, SnippetScores | None]:
        """Detections in one video, and its snippet scores where these are what is fused."""
        found = [predictor(name, features, axis) for predictor in self.each]
        localizer = self.each[0].method
        detections, scores = joined(
            self.run,
            self.members,
            [(d, [] if s is None else [s]) for d, s in found],
            localizer if isinstance(localizer, SnippetMethod) else None,
        )
        return detections, scores[0] if scores else None


def predictor_of(
    run: Run, device: torch.device | str = "cpu", *, chunk: int | None = None
) -> Predictor | FusedPredictor:
    """A run of either kind, ready for any video."""
    kind = FusedPredictor if run.config.method == FUSED else Predictor
    return kind(run, device, chunk=chunk)


def clearest(detections: Detections, name: str, least: float | None = None) -> Detections:
    """What people want to read of a video: its segments of at least that score, none over a stronger one.

    Args:
        detections: of any videos.
        name: the video.
        least: lowest score; default 0.7 of the best score in this video, as methods and videos differ in
            how high their scores are.

    Returns:
        In order of time; no two of them overlap.
    """
    found = detections.of(name)
    if least is None:
        least = CLEAR * float(found.score.max(initial=0))
    found = found[found.score >= least]
    kept: list[int] = []
    for i in np.argsort(-found.score, kind="stable"):
        if all(found.end[i] <= found.start[j] or found.start[i] >= found.end[j] for j in kept):
            kept.append(int(i))
    rows = np.array(kept, np.int64)
    return found[rows[np.argsort(found.start[rows], kind="stable")]]
