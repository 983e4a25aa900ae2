"""Labels of videos in losses. A class of which it is not known whether it occurs takes no part.

A video without any class needs nothing from here: its normalised labels are zeros.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_NEVER = -1e4  # a logarithm whose exponential is 0, and which times 0 is 0


def among_known(log_p: Tensor, known: Tensor | None) -> Tensor:
    """Log-probabilities given that the class is one of the known ones: of unknown ones no mass is left.

    Args:
        log_p: (..., C) of classes, or (..., C + 1) with the background last, which is known.
        known: (..., C) bool, or that broadcasts; None: every class is.

    Returns:
        As `log_p`, very low at unknown classes; `log_p` itself if every class is known.
    """
    if known is None:
        return log_p
    known = F.pad(known, (0, log_p.shape[-1] - known.shape[-1]), value=True)
    return log_p.masked_fill(~known, _NEVER).log_softmax(dim=-1)


def known_mean(loss: Tensor, known: Tensor | None) -> Tensor:
    """Mean over the known classes.

    Args:
        loss: (B, C).
        known: (B, C) bool; None: every class is.

    Returns:
        (B,); 0 where nothing is known.
    """
    if known is None:
        return loss.mean(dim=1)
    return (loss * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
