"""Seeds of torch's generators: each derives from the run's seed and a place in the run, so none is saved."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

AT_ONCE = 256  # seeds of steps made in a row: one by one, between steps, each would take ten times as long


def seed_torch(seed: int, *key: int) -> None:
    """Seed every generator of torch from the run's seed and a place in the run."""
    _seed_generators(_seed_at(seed, *key))


def seed_stage(seed: int, stage: int) -> None:
    """Seed torch for what a stage begins with."""
    seed_torch(seed, 1, stage)


def seed_step(seed: int, stage: int, step: int) -> None:
    """Seed torch for a step: as ``seed_torch(seed, 2, stage, step)``."""
    _seed_generators(_block(seed, stage, step // AT_ONCE)[step % AT_ONCE])


def _seed_at(seed: int, *key: int) -> int:
    return int(np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=1)
def _block(seed: int, stage: int, block: int) -> list[int]:
    return [_seed_at(seed, 2, stage, step) for step in range(block * AT_ONCE, (block + 1) * AT_ONCE)]


def _seed_generators(number: int) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        torch.manual_seed(number)
    else:  # which would note down where it was called from, for devices that might come: 2 ms a step
        torch.default_generator.manual_seed(number)
