"""Jobs of several processes: started by torchrun or by Slurm, and ended when one of them dies."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from weaktal.train.loop import job_size

FORK = mp.get_context("forkserver")
FORK.set_forkserver_preload(["tests.methods.jobs"])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(out: Path, environments: list[dict[str, str]], seconds: float = 0.0):  # type: ignore[no-untyped-def]
    from tests.methods import jobs

    group = [FORK.Process(target=jobs.train_in_job, args=(out, e, seconds)) for e in environments]
    for process in group:
        process.start()
    return group


def torchrun(processes: int) -> list[dict[str, str]]:
    port = str(free_port())
    return [
        {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "TORCHELASTIC_RUN_ID": "test",
        }
        for rank in range(processes)
    ]


def slurm(processes: int) -> list[dict[str, str]]:
    port = str(free_port())
    return [
        {
            "SLURM_JOB_ID": "17",
            "SLURM_JOB_NAME": "train",
            "SLURM_NTASKS": str(processes),
            "SLURM_NTASKS_PER_NODE": str(processes),
            "SLURM_STEP_NUM_TASKS": str(processes),
            "SLURM_STEP_NUM_NODES": "1",
            "SLURM_NNODES": "1",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
            "SLURM_NODELIST": "localhost",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        for rank in range(processes)
    ]


@pytest.mark.parametrize("starter", [torchrun, slurm])
def test_three_processes_train_one_model(tmp_path: Path, starter) -> None:  # type: ignore[no-untyped-def]
    group = start(tmp_path, starter(3))
    for process in group:
        process.join(60)
    assert [p.exitcode for p in group] == [0, 0, 0]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 18
    sizes = {json.loads(x) for x in (tmp_path / "sizes.txt").read_text().split()}
    assert sizes == {3}


def test_a_process_that_dies_ends_the_job_and_the_job_resumes(tmp_path: Path) -> None:
    group = start(tmp_path, torchrun(2), seconds=0.05)
    log = tmp_path / "log.jsonl"
    begin = time.monotonic()
    while not (log.exists() and log.read_text().count("\n") > 2):
        assert time.monotonic() - begin < 60
        time.sleep(0.01)
    os.kill(group[1].pid, signal.SIGKILL)
    for process in group:
        process.join(60)
    assert [p.exitcode for p in group] == [1, -signal.SIGKILL]
    assert "another process of this job has ended" in (tmp_path / "error0.txt").read_text()
    # two processes resume what two began; then the run is complete
    again = start(tmp_path, torchrun(2))
    for process in again:
        process.join(60)
    assert [p.exitcode for p in again] == [0, 0]
    lines = [json.loads(x) for x in log.read_text().splitlines()]
    assert [x["total_step"] for x in lines] == list(range(18))


def test_a_shell_inside_slurm_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert job_size() == (1, 1)
