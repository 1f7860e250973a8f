"""Does `throughtime train` say, return and leave what it promises?"""

import json
import math
import re
import shlex

import pytest

from throughtime.cli.main import _parse, main
from throughtime.cli.words import number
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
)
from throughtime.train.explicit import explicit_command
from throughtime.train.run import start_run
from train.tiny import TINY_FLAGS, assert_equal_bits, final_tensors, write_text


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path, words=900)


def train(*arguments):
    return main(["train", *map(str, arguments)])


def test_json_is_one_object_on_stdout_and_nothing_else(text, tmp_path, capsys):
    assert train(text, "--out", tmp_path / "run", *TINY_FLAGS, "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.out.count("\n") == 1
    assert found.keys() >= {
        "run", "engine", "cell", "parameters", "updates", "elapsed_s", "tokens_per_s", "valid",
        "baselines",
    }  # fmt: skip
    assert found["run"] == str(tmp_path / "run")
    assert (found["cell"], found["updates"], found["ending"]) == ("lstm", 12, "finished")
    assert found["engine"] in {"vendor", "llvm", "reference"}
    assert found["valid"].keys() == {"loss_nats", "bits_per_char"}
    assert found["valid"]["bits_per_char"] == pytest.approx(
        found["valid"]["loss_nats"] / math.log(2)
    )
    assert found["baselines"].keys() == {"uniform", "unigram", "ngram5", "lzma"}
    assert "order-5 n-gram" in printed.err


def test_the_plain_view_has_plan_table_and_result_in_80_columns(
    text, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert train(text, "--out", "run", *TINY_FLAGS) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    for line in printed.out.splitlines():
        assert len(line) <= 80 or str(tmp_path) in line, line
        assert line == line.rstrip()
    words = re.findall(r"^(\w[\w ]*?)  +\S", printed.out, flags=re.MULTILINE)
    order = "text baselines model engine plan folder same\u0020as ended score gauge folder next"
    assert [w for w in words if w in order.replace("same as", "same_as").replace("_", " ")] == [
        "text", "baselines", "model", "engine", "plan", "folder", "same as", "ended", "score",
        "gauge", "folder", "next",
    ]  # fmt: skip
    row = r"^ +(\d+) +[\d.]+ +[\d.]+ +([\d.]+)? +[\d,]+ +\S+ +\d+\+?$"
    rows = re.findall(row, printed.out, re.M)
    assert [int(update) for update, _ in rows] == list(range(1, 13))
    assert [int(update) for update, valid in rows if valid] == [6, 12]
    assert "throughtime generate run --prompt" in printed.out


def test_a_terminal_gets_a_bar_and_colours_beside_the_same_lines(
    text, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert train(text, "--out", tmp_path / "run", *TINY_FLAGS) == 0
    shown = capsys.readouterr().out
    assert "12/12" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    row = r"^.*? +(\d+) +[\d.]+ +[\d.]+ +[\d.]+ +[\d,]+ +\S+ +\d+\+?$"
    rows = re.findall(row, shown, re.MULTILINE)
    assert [int(update) for update in rows] == [6, 12]


def test_the_command_that_is_shown_makes_the_same_run(text, tmp_path, capsys):
    assert train(text, "--out", tmp_path / "run", *TINY_FLAGS, "--layers", 2) == 0
    shown = capsys.readouterr().out.partition("same as")[2].partition("\n\n")[0]
    words = shlex.split(shown.replace("\\\n", " "))
    assert words[:2] == ["throughtime", "train"]
    assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
    assert_equal_bits(final_tensors(tmp_path / "again"), final_tensors(tmp_path / "run"))


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(run=RunConfig(budget="1h30m")),
        TrainConfig(
            data=DataConfig(data="a folder/it's.txt", unit="word", max_vocabulary=50),
            model=ModelConfig(cell="gru", adaptive=(10, 20), projection=3),
            optimiser=OptimiserConfig(optimiser="nesterov", momentum=0.0, clip_value=0.1),
            run=RunConfig(updates=7, seed=3, save_s=0.0),
        ),
        TrainConfig(model=ModelConfig(tied=True), optimiser=OptimiserConfig(clip_norm=0.0)),
    ],
    ids=["default", "budget", "everything", "none"],
)
def test_a_command_says_all_of_its_configuration(config):
    words = shlex.split(" ".join(explicit_command(config)))
    command = _parse(words[1:])
    found = TrainConfig(command.data, command.model, command.optimiser, command.run)
    data = config.data.data
    assert found.data.data == (None if data is None else type(found.data.data)(data))
    assert found.tables() == config.tables()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.012"), (1.2345, "1.234"), (1234.5, "1,234"), (9.65e24, "9.7e+24")],
)
def test_a_score_fits_its_column_however_large(value, text):
    assert number(value) == text


def test_a_run_that_was_interrupted_goes_on(text, tmp_path, capsys):
    start = ("--out", tmp_path / "run", *TINY_FLAGS)
    assert train(text, *start, "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert train("--resume", tmp_path / "run", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["valid"] == whole["valid"]
    assert again["baselines"] == whole["baselines"]


def test_divergence_is_an_error_with_a_way_out(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("throughtime.train.optimise.get_total_norm", lambda gradients: math.nan)
    flags = (*TINY_FLAGS, "--nonfinite", "stop", "--json")
    assert train(text, "--out", tmp_path / "run", *flags) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["ending"] == "diverged"
    assert json.loads(printed.out)["updates"] == 1
    assert "lower --learning-rate" in printed.err
    assert "update 1: the gradient is not finite; rule: stop" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "{run}", "--hidden", "9"], "came with other options"),
        (["--resume", "{run}", "--out", "elsewhere"], "came with other options"),
        (["--resume", "{text}"], "holds no run"),
        (["no-such-file.txt"], "no-such-file.txt"),
        (["{text}", "--cell", "lstn"], "'lstn' is unknown; did you mean"),
        (
            ["{text}", "--budget", "soon"],
            "budget is 'soon'; expected numbers followed by s, m or h",
        ),
        (["{text}", "--hidden", "0"], "hidden is 0; expected a whole number of at least 1"),
        (["{text}", "--hidden", "many"], "Error parsing --hidden: no type matching"),
        (["{text}", "--unit", "letter"], "invalid choice 'letter' for argument '--unit'"),
        (["{text}", "--hiden", "3"], "Unrecognized options: --hiden"),
        (["{text}", "--engine", "fast"], "invalid choice 'fast' for argument '--engine'"),
        (["{text}", "--cell", "mgu", "--engine", "vendor"], "engine='vendor' cannot do this"),
        (["{text}", "--out", "{run}"], "holds a run already. Give --resume"),
        (["{text}", "--out", "{text}/run"], "cannot write into the folder"),
        (["{text}", "--batch-size", "5000"], "--batch-size"),
        (["{text}", "--momentum", "0.9"], "adam has none of its own"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else "",
)
def test_the_users_mistakes_are_one_line_and_status_2(
    text, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    if "{run}" in arguments:
        start_run_quietly(text, run)
    filled = [a.format(run=run, text=text) for a in arguments]
    assert train(*filled, "--json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("throughtime: ")
    assert message in printed.err
    assert "dummy" not in printed.err
    assert "│" not in printed.err


def start_run_quietly(text, run):
    from train.tiny import tiny_config

    start_run(tiny_config(text), run)
