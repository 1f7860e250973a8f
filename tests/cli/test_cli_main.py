"""Are the other verbs, the help and our own faults what they should be?"""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

import throughtime
from throughtime.cli import doctor
from throughtime.cli.main import main
from throughtime.report.lines import duration, printable, shell_command
from throughtime.train.run import start_run
from train.tiny import tiny_config, write_text

VERBS = (
    "train", "evaluate", "generate", "diagnose", "cure", "compare", "tasks", "demo", "bench",
    "doctor", "reproduce",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    result = start_run(tiny_config(write_text(folder)), folder / "run")
    return folder / "run", result


# --- Help ---------------------------------------------------------------------------------------


def in_a_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["compare", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from throughtime.cli.main import main\n"
        f"status = main({arguments})\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'llvmlite', 'rich'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = in_a_process(code)
    assert done.returncode == 0, done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    for verb in VERBS:
        assert verb in done.stdout or len(arguments) > 1


def test_every_flag_is_explained(capsys):
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        for line in shown.splitlines():
            assert not line.rstrip("│ ").endswith("FLOAT (default"), line
            assert "None}" not in line, "an option that may be left out is no set"
            assert len(line) == 80 or not line.startswith(("│", "╭", "╰")), line
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    for flag in ("--cell", "--layers", "--hidden", "--budget", "--out", "--seed", "--engine"):
        assert flag in shown
    for flag in ("--resume", "--json"):
        assert flag in shown


def test_the_package_is_a_program_too():
    done = subprocess.run(
        [sys.executable, "-m", "throughtime", "tarin"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("throughtime: Unrecognized options: tarin")
    assert done.stderr.count("\n") == 1


# --- Faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (TypeError("two\nlines"), 1, "internal error, TypeError: two lines. Add --debug"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (throughtime.errors.CheckpointError("damaged"), 2, "throughtime: damaged"),
        (KeyboardInterrupt(), 130, "stopped at once"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_faults_end_in_one_line_and_a_status(monkeypatch, capsys, error, status, message):
    def fail(self):
        raise error

    monkeypatch.setattr(doctor.Doctor, "__call__", fail)
    assert main(["doctor"]) == status
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    if status in {1, 2}:
        with pytest.raises(type(error)):
            main(["doctor", "--debug"])


def test_sigterm_before_there_is_anything_to_save_ends_in_its_status(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        doctor.Doctor, "__call__", lambda self: os.kill(os.getpid(), signal.SIGTERM) or 0
    )
    assert main(["doctor"]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


# --- evaluate -----------------------------------------------------------------------------------


def test_evaluate_repeats_the_score_of_the_run(trained, capsys):
    run, result = trained
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] == {
        "loss_nats": result.validation.score.loss,
        "bits_per_char": result.validation.score.score,
    }
    assert main(["evaluate", str(run)]) == 0
    assert f"{result.validation.score.score:.3f} bits/char" in capsys.readouterr().out


def test_evaluate_scores_another_text(trained, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text("a text of its own " * 3)
    assert main(["evaluate", str(trained[0]), str(other), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["symbols"] == 54
    assert found["text"] == "other, all of it"


# --- generate -----------------------------------------------------------------------------------


def generate(run, *arguments):
    return main(["generate", str(run), *arguments])


def test_generate_returns_prompt_text_and_seed(trained, capsys):
    texts = []
    for seed in ("3", "3", "4"):
        flags = ("--prompt", "the ", "--length", "30", "--seed", seed, "--temperature", "1.0")
        assert generate(trained[0], *flags, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found.keys() == {"prompt", "text", "seed"}
        assert (found["prompt"], found["seed"], len(found["text"])) == ("the ", int(seed), 30)
        texts.append(found["text"])
    assert texts[0] == texts[1] != texts[2]


def test_generate_prints_the_prompt_and_what_follows(trained, capsys):
    assert generate(trained[0], "--prompt", "the ", "--length", "9", "--json") == 0
    text = json.loads(capsys.readouterr().out)["text"]
    assert generate(trained[0], "--prompt", "the ", "--length", "9") == 0
    printed = capsys.readouterr()
    assert printed.out == f"the {text}\n"
    assert printed.err == ""


def test_a_prompt_that_is_not_known_is_told(trained, capsys):
    assert generate(trained[0], "--prompt", "the Ω", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["prompt"] == "the Ω"
    assert "read 'the \ufffd'" in printed.err


@pytest.mark.parametrize("flags", [["--length", "-1"], ["--temperature", "-1"]])
def test_what_cannot_be_drawn_is_refused(trained, capsys, flags):
    assert generate(trained[0], *flags) == 2
    assert capsys.readouterr().err.startswith("throughtime: length is")


def test_a_damaged_model_is_refused(trained, tmp_path, capsys):
    data = bytearray((trained[0] / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    for verb in ("generate", "evaluate"):
        assert main([verb, str(tmp_path)]) == 2
        assert "model.safetensors" in capsys.readouterr().err


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_finds_the_engines_right(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_healthy"] is True
    assert found["packages"]["torch"] == torch.__version__
    assert found["engines"].keys() == {"llvm", "reference", "vendor"}
    assert all(e["worst_error"] <= 1e-12 for e in found["engines"].values())
    assert found["cpu"]["threads"] == torch.get_num_threads()
    assert found["free_disk_gib"] > 0
    assert main(["doctor"]) == 0
    assert "all is well" in capsys.readouterr().out


def test_doctor_finds_an_engine_that_is_wrong(monkeypatch, capsys):
    forward = throughtime.nn.LSTM.forward

    def wrong(self, x, *arguments, **options):
        output, hx = forward(self, x, *arguments, **options)
        return output * (1 + 1e-9), hx

    monkeypatch.setattr(throughtime.nn.LSTM, "forward", wrong)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG" in printed
    assert "computes wrongly" in printed


# --- Words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (59.4, "59s"), (59.6, "1m00s"), (125, "2m05s"), (5400, "1h30m")],
)
def test_durations_are_told_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_long_command_is_broken_so_that_a_shell_reads_it():
    shown = shell_command([f"--flag-{n} value" for n in range(20)], width=40)
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert shown.replace(" \\\n ", "") == " ".join(f"--flag-{n} value" for n in range(20))


def test_written_text_cannot_drive_the_terminal():
    assert printable("a\x1b[2Jb\tc\nd\x07") == "a\ufffd[2Jb\ufffdc\nd\ufffd"
