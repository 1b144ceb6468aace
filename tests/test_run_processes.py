"""One run in two processes: the curve of one process, written once."""

import json
import os
import re
import socket
import subprocess
import sys

import numpy as np
import tiny

# what the collectives' library says at a start, in pieces, as processes break each other's lines
GLOO = (
    r"\[Gloo\] Rank |\d+| is connected to | peer ranks\. |"
    r"Expected number of connected peer ranks is : "
)


def test_two_processes_train_judge_and_write_once(tmp_path, finished):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2"
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                str(tiny.FILE.parents[1] / "launch.py"),
                f"--config={tiny.JUDGED}",
                f"--workdir={tmp_path}",
                "--config.parallel.devices=4",
                f"--coordinator=localhost:{port}",
                "--processes=2",
                f"--process={index}",
            ],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(tiny.FILE.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "4 × cpu (cpu)" in outputs[0][0]
    assert re.sub(GLOO, "", outputs[1][0]).strip() == ""  # only the first speaks
    assert [step for step, _ in tiny.lines(tmp_path)] == list(range(1, 9))
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(finished), rtol=1e-5)
    record, alone = (
        json.loads((folder / "record.json").read_text()) for folder in (tmp_path, finished)
    )
    assert (record["processes"], record["devices"]) == (2, 4)
    np.testing.assert_allclose(
        record["metrics"]["mean_gap"], alone["metrics"]["mean_gap"], rtol=1e-4
    )
    assert (tmp_path / "samples.png").exists()
    assert (tmp_path / "trajectories.png").exists()
    # what two processes saved, one takes up
    assert tiny.launched(tmp_path, "steps=9") == 0
