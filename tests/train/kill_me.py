"""``python -m tests.train.kill_me OUT``: trains the test method and writes a checkpoint after every step."""

import sys
import time

from tests.train.linear_mil import LinearMIL, LinearMILConfig
from weaktal.testing import toy_data
from weaktal.train import fit, log
from weaktal.train.loop import seed_torch

if __name__ == "__main__":
    log.MOST_PENDING = 1
    data = toy_data()
    seed_torch(0)
    method = LinearMIL(LinearMILConfig(), dim=data.bank.dim, classes=data.weak.classes)
    inner = method.draw

    def slow(stage: int, step: int, data):  # type: ignore[no-untyped-def]
        time.sleep(0.01)
        return inner(stage, step, data)

    method.draw = slow  # type: ignore[method-assign]
    fit(method, data, sys.argv[1], device="cpu", progress=False, checkpoint_steps=1)
