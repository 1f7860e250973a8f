"""Does a run that is killed at any moment go on to the same bits?"""

import random
import shutil
import signal
import time

import pytest

from cli.fork_server import CommandServer
from throughtime.errors import CheckpointError
from throughtime.records import read_metrics
from throughtime.train.checkpoint import load_latest
from train.tiny import TINY_FLAGS, assert_equal_bits, final_tensors, write_text


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = CommandServer(tmp_path_factory.mktemp("output"))
    yield server
    server.close()


def updates_lost(folder):
    """Updates noted as made, beyond those that can be gone on from."""
    metrics = folder / "metrics.jsonl"
    made = [r["update"] for r in read_metrics(metrics, "train")] if metrics.exists() else []
    try:
        saved = load_latest(folder).meta["state"]["update"]
    except CheckpointError:
        saved = 0
    return max(made, default=0) - saved


def kill_and_go_on(server, folder, trials):
    text = write_text(folder)

    def start(run):
        if (run / "config.toml").exists():
            return server.start("train", "--resume", run)
        return server.start("train", text, "--out", run, *TINY_FLAGS, "--layers", 2)

    def run_to_the_end(run):
        command = start(run)
        assert command.wait() == 0, command.stderr

    run_to_the_end(folder / "warm")
    begun_s = time.monotonic()
    run_to_the_end(folder / "whole")
    whole_s = time.monotonic() - begun_s
    choose, broken_off = random.Random(0), 0
    for trial in range(trials):
        broken = folder / f"broken-{trial}"
        for _ in range(choose.choice([1, 1, 2, 3])):
            command = start(broken)
            time.sleep(choose.uniform(0.0, whole_s))
            command.send(signal.SIGKILL)
            assert command.wait() in {-signal.SIGKILL, 0}
            assert updates_lost(broken) <= 1  # every update is saved here: one may be under way
            broken_off += (broken / "metrics.jsonl").exists()
        run_to_the_end(broken)
        assert_equal_bits(final_tensors(broken), final_tensors(folder / "whole"))
        shutil.rmtree(broken)
    assert broken_off > trials / 4  # the kills met runs that were training


def test_ten_runs_killed_at_random(server, tmp_path):
    kill_and_go_on(server, tmp_path, trials=10)


@pytest.mark.slow
def test_two_hundred_runs_killed_at_random(server, tmp_path):
    kill_and_go_on(server, tmp_path, trials=200)
