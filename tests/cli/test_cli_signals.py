"""Does a run stop safely when it is asked to, once and twice?"""

import json
import signal
import time

import pytest

from cli.fork_server import CommandServer
from throughtime.records import read_metrics
from throughtime.train.checkpoint import load_checkpoint, load_latest
from train.tiny import TINY_FLAGS, assert_equal_bits, final_tensors, write_text

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = CommandServer(tmp_path_factory.mktemp("output"))
    yield server
    server.close()


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path)


def start(server, text, run, *flags):
    return server.start("train", text, "--out", run, *TINY_FLAGS, "--layers", 2, *flags)


def wait_for_update(run, update):
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and len(read_metrics(metrics, "train")) >= update:
            return
        time.sleep(0.005)
    pytest.fail(f"no update {update} in {PATIENCE_S} s")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_one_signal_finishes_the_update_saves_and_ends(server, text, tmp_path, number, status):
    flags = ("--updates", 80, "--save-s", 1000)
    assert start(server, text, tmp_path / "whole", *flags).wait() == 0
    command = start(server, text, tmp_path / "run", *flags, "--json")
    wait_for_update(tmp_path / "run", 5)
    command.send(number)
    begun_s = time.monotonic()
    assert command.wait() == status
    assert time.monotonic() - begun_s < 10.0
    found = json.loads(command.stdout)
    made = read_metrics(tmp_path / "run" / "metrics.jsonl", "train")[-1]["update"]
    saved = load_checkpoint(tmp_path / "run" / "last.ckpt").meta["state"]["update"]
    assert 5 <= made == saved == found["updates"] < 80
    assert found["ending"] == "interrupted"
    assert f"throughtime train --resume {tmp_path / 'run'}" in " ".join(command.stderr.split())
    assert server.start("train", "--resume", tmp_path / "run").wait() == 0
    assert_equal_bits(final_tensors(tmp_path / "run"), final_tensors(tmp_path / "whole"))


def test_a_second_ctrl_c_ends_the_process_at_once(server, text, tmp_path):
    """The run is held up by a sample that takes hours to write."""
    run = tmp_path / "run"
    command = start(server, text, run, "--updates", 12, "--sample", 10**8)
    wait_for_update(run, 6)
    command.send(signal.SIGINT)
    time.sleep(1.5)  # two signals that meet before they are handled count as one
    begun_s = time.monotonic()
    command.send(signal.SIGINT)
    assert command.wait() == 130
    assert time.monotonic() - begun_s < 5.0
    assert load_latest(run).meta["state"]["update"] == 5
    assert load_latest(run).warning is None


def test_a_second_writer_is_told_of_the_first(server, text, tmp_path):
    run = tmp_path / "run"
    command = start(server, text, run, "--updates", 10**6)
    wait_for_update(run, 1)
    second = server.start("train", "--resume", run)
    assert second.wait() == 2
    assert second.stderr.count("\n") == 1
    assert f"is being written by process {command.pid} on" in second.stderr
    command.send(signal.SIGINT)
    assert command.wait() == 130
