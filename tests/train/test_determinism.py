"""Same seed, same bits: in another process, and wherever memory lies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# products of small matrices, and other operators of the methods, on the same numbers that begin at each of 16
# places in memory; prints how many different results there were of each
PLACES = """
{first}
import torch
import torch.nn.functional as F

torch.manual_seed(0)
shapes = [(300, 128), (37, 24), (7, 9), (1000, 128), (2, 4096)]
operators = {{
    "to five": lambda x: F.linear(x, torch.ones(5, x.shape[1]) / 3),
    "to one": lambda x: x @ torch.linspace(0, 1, x.shape[1])[:, None],
    "vector": lambda x: x[0] @ x.T,
    "all pairs": lambda x: x @ x.T,
    "convolution": lambda x: F.conv1d(x.T[None], torch.ones(3, x.shape[1], 3) / 7, padding=1),
    "logsumexp": lambda x: x.logsumexp(0),
    "softmax": lambda x: x.softmax(1),
    "sums": lambda x: torch.cat([x.sum(0), x.mean(1), x.norm(dim=1), x.cumsum(0)[-1]]),
}}
for name, operator in operators.items():
    worst = 0
    for shape in shapes:
        values, results = torch.randn(shape), set()
        for place in range(16):
            memory = torch.empty(values.numel() + 16)
            x = memory[place : place + values.numel()].view(shape)
            x.copy_(values)
            results.add(operator(x).numpy().tobytes())
        worst = max(worst, len(results))
    print(f"{{name}}: {{worst}}")
"""


def results(first: str, **environment: str) -> dict[str, int]:
    """How many results each operator has, after a line of Python."""
    clean = {k: v for k, v in os.environ.items() if k != "MKL_CBWR"} | environment
    command = [sys.executable, "-c", PLACES.format(first=first)]
    out = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout
    return {name: int(count) for name, count in (line.split(": ") for line in out.splitlines())}


@pytest.mark.parametrize("threads", ["1", "2"])
def test_no_operator_depends_on_where_its_input_lies(threads: str) -> None:
    """Torch alone does, where it uses MKL: products of small matrices have up to 6 results in 16 places."""
    found = results("import weaktal.nn", OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    assert set(found.values()) == {1}, found


def test_the_users_own_setting_is_kept() -> None:
    command = [sys.executable, "-c", "import os, weaktal.nn; print(os.environ['MKL_CBWR'])"]
    environment = os.environ | {"MKL_CBWR": "COMPATIBLE"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "COMPATIBLE"
