"""Is a published table had again as it says: its runs, its numbers, its verdicts?"""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from throughtime.errors import ConfigError, DataError, RunBusyError
from throughtime.records import read_results
from throughtime.studies.reproduce.catalogue import EXPERIMENTS, find_experiment
from throughtime.studies.reproduce.conduct import ReproduceWatch, Settings, reproduce
from throughtime.studies.reproduce.configure import configured
from throughtime.studies.reproduce.experiment import Arm, Experiment, Row
from throughtime.studies.reproduce.measures import measured
from throughtime.studies.reproduce.runs import planned_run
from throughtime.studies.reproduce.verdicts import judged
from throughtime.train.config import TrainConfig
from throughtime.train.runlock import RunLock

DATA = Path(__file__).parents[3] / "shared" / "data"
NAMES = [
    "adding", "copy", "warping", "temporal-order", "music", "pascanu-music", "gated-feedback",
    "program-evaluation", "ptb-words", "mnist", "agreement", "class-softmax",
]  # fmt: skip


# --- The catalogue ---


def test_all_tables_are_there():
    assert list(EXPERIMENTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_orders_name_what_there_is(name):
    one = EXPERIMENTS[name]
    arms, rows = [arm.name for arm in one.arms], [row.name for row in one.rows]
    assert len(set(arms)) == len(arms)
    assert len(set(rows)) == len(rows)
    assert {arm for row in one.rows for arm in row.arms} <= set(arms)
    assert {row for pair in one.orders for row in pair} <= set(rows)
    assert all(better != worse for better, worse in one.orders)
    assert one.seeds >= 1
    assert one.claim
    assert one.source
    assert one.chosen


@pytest.mark.parametrize("name", NAMES)
def test_what_a_row_holds_against_the_paper_can_be_judged(name):
    """A goal that is the paper's number is that number; words have a threshold."""
    for row in EXPERIMENTS[name].rows:
        if isinstance(row.paper, str):
            assert row.goal is not None or any(row.name in p for p in EXPERIMENTS[name].orders)
        elif row.goal is not None:
            assert row.paper is not None


@pytest.mark.parametrize("name", NAMES)
def test_no_two_arms_are_one_run(name, tmp_path):
    """Or two processes would write into one folder."""
    one = replace(EXPERIMENTS[name], arms=tuple(_nowhere(a) for a in EXPERIMENTS[name].arms))
    folders = [planned_run(arm, None, 0, tmp_path).folder for arm in one.arms]
    assert len(set(folders)) == len(folders)


def _nowhere(arm):
    """An arm whose data need not be there."""
    unread = {"data": replace(arm.config.data, data=Path(arm.file or "nothing"))}
    return replace(arm, config=replace(arm.config, **unread), file=None)


def test_the_quick_form_learns_next_to_nothing():
    quick = EXPERIMENTS["temporal-order"].quick()
    assert quick.seeds == 1
    assert {arm.config.run.updates for arm in quick.arms} == {2}
    assert {arm.config.model.hidden for arm in quick.arms} == {16}
    full = EXPERIMENTS["temporal-order"]
    assert [a.config.model.cell for a in quick.arms] == [a.config.model.cell for a in full.arms]


def test_an_unknown_table_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"no table addng; expected one of .* Did you mean adding"
    ):
        find_experiment("addng")


def test_data_that_are_missing_are_named_before_anything_runs(tmp_path):
    with pytest.raises(DataError, match=r"needs music/JSB.* no folder was given"):
        reproduce(EXPERIMENTS["music"], Settings(tmp_path / "o", tmp_path / "r"))
    with pytest.raises(DataError, match="Give --data FOLDER"):
        reproduce(EXPERIMENTS["music"], Settings(tmp_path / "o", tmp_path / "r", tmp_path))
    assert not (tmp_path / "o").exists()


def test_options_find_their_groups():
    found = configured(task="copy", length=5, cell="gru", hidden=3, clip_norm=0.0, updates=7)
    assert (found.data.task, found.data.length) == ("copy", 5)
    assert (found.model.cell, found.model.hidden) == ("gru", 3)
    assert (found.optimiser.clip_norm, found.run.updates) == (0.0, 7)
    with pytest.raises(AssertionError, match="hiden"):
        configured(hiden=3)


# --- Numbers ---

TRAINED = {
    "test": {"loss_nats": 0.5, "wrong_share": 0.25, "is_solved": False},
    "valid": {"loss_nats": 0.4},
    "baselines": {"memoryless": 2.0},
    "parameters": 10,
    "elapsed_s": 3.0,
    "tokens_per_s": 7.0,
}


def test_numbers_of_a_task_are_those_of_its_test_part():
    found = measured(TRAINED, None)
    assert found["loss"] == found["loss_nats"] == 0.5
    assert found["plateau_share"] == 0.25
    assert found["accuracy_percent"] == 75.0
    assert found["solved"] == 0.0
    free = {"loss_nats": 0.5, "wrong_share": 0.25}  # of a task without a criterion
    assert "solved" not in measured(TRAINED | {"test": free}, None)


def test_numbers_of_a_text_and_of_what_was_scored_besides():
    trained = TRAINED | {"test": None, "valid": {"loss_nats": 1.0, "perplexity": 2.7}}
    found = measured(trained | {"baselines": {}}, {"valid": {"loss_nats": 2.0, "perplexity": 7.4}})
    assert (found["perplexity"], found["test_perplexity"]) == (2.7, 7.4)
    assert "plateau_share" not in found
    assert "accuracy_percent" not in found
    assert measured(trained, {"percent_right": 60.0, "items": 5})["percent_right"] == 60.0


def test_a_number_that_is_not_finite_is_none():
    broken = TRAINED | {"test": {"loss_nats": math.nan, "wrong_share": 1.0, "is_solved": False}}
    assert "loss" not in measured(broken, None)
    assert measured(TRAINED | {"test": {"loss_nats": None}}, None).get("loss") is None


# --- Verdicts ---


@dataclass
class Done:
    """A run that was trained, with these numbers."""

    arm: Arm
    numbers: dict
    seed: int = 0
    remembered: dict = field(default_factory=dict)

    def found(self, stage):
        return {} if stage != "train" else {"ending": "finished"}

    def values(self):
        return self.numbers

    def memory(self):
        return self.remembered


def _verdicts(rows, orders, losses):
    """The verdict of each row, the runs of each arm having these losses (None: it diverged)."""
    arms = {name: Arm(name, TrainConfig()) for name in losses}
    one = Experiment("t", "c", "s", tuple(arms.values()), tuple(rows), tuple(orders))
    runs = [
        Done(arms[name], {} if loss is None else {"loss": loss, "solved": float(loss < 1)}, seed)
        for name, found in losses.items()
        for seed, loss in enumerate(found)
    ]
    return {row["name"]: row for row in judged(one, runs)}


def _row(name, **options):
    return Row(name, (name,), "loss", "nats", **options)


def test_a_goal_is_met_by_the_mean():
    rows = [_row("a", paper=2.0, goal=2.0), _row("b", paper=2.0, goal=2.0)]
    found = _verdicts(rows, [], {"a": [1.9, 2.1], "b": [2.0, 2.2]})
    assert (found["a"]["verdict"], found["b"]["verdict"]) == ("met", "not met")
    assert found["a"]["ours"] == pytest.approx(2.0)
    assert found["a"]["low"] < 1.9 < 2.1 < found["a"]["high"]
    assert (found["b"]["runs"], found["b"]["solved"]) == (2, 0)


def test_higher_may_be_better():
    rows = [_row("a", better="high", goal=2.0), _row("b", better="high", goal=2.0)]
    found = _verdicts(rows, [("a", "b")], {"a": [2.5], "b": [1.0]})
    assert (found["a"]["verdict"], found["b"]["verdict"]) == ("met", "order met")


def test_an_order_holds_for_each_pair_of_a_row():
    rows = [_row(name, paper=0.0, goal=0.0) for name in "abc"]
    orders = [("a", "b"), ("b", "c")]
    found = _verdicts(rows, orders, {"a": [1.0], "b": [2.0], "c": [3.0]})
    assert {row["verdict"] for row in found.values()} == {"order met"}
    found = _verdicts(rows, orders, {"a": [1.0], "b": [3.0], "c": [2.0]})
    assert [found[n]["verdict"] for n in "abc"] == ["order met", "not met", "not met"]


def test_equal_numbers_reverse_no_order_and_make_none():
    rows = [_row(name) for name in "abc"]
    found = _verdicts(rows, [("a", "b"), ("b", "c")], {"a": [1.0], "b": [1.0], "c": [2.0]})
    assert [found[n]["verdict"] for n in "abc"] == ["not met", "order met", "order met"]


def test_a_run_that_diverged_is_worse_than_any_number():
    rows = [_row("a", goal=5.0), _row("b")]
    found = _verdicts(rows, [("b", "a")], {"a": [1.0, None], "b": [9.0]})
    assert found["a"]["broken"] == 1
    assert (found["a"]["verdict"], found["b"]["verdict"]) == ("order met", "order met")


def test_without_a_claim_or_without_runs_there_is_no_verdict():
    rows = [_row("a"), _row("b", goal=1.0), _row("c")]
    found = _verdicts(rows, [("c", "b")], {"a": [1.0], "b": [], "c": [1.0]})
    assert [found[n]["verdict"] for n in "abc"] == [None, None, None]
    assert found["b"]["ours"] is None


def test_a_goal_is_judged_before_all_of_an_order_was_run():
    rows = [_row("a", goal=2.0), _row("b", goal=2.0), _row("c")]
    found = _verdicts(rows, [("a", "c"), ("b", "c")], {"a": [1.0], "b": [3.0], "c": []})
    assert [found[n]["verdict"] for n in "abc"] == ["met", "not met", None]


def test_a_row_may_pool_several_arms():
    rows = [Row("both", ("a", "b"), "solved", "share", "high", goal=0.5)]
    found = _verdicts(rows, [], {"a": [0.0], "b": [2.0]})
    assert (found["both"]["ours"], found["both"]["verdict"]) == (0.5, "met")


# --- From the command to the result ---


def _tiny(name, **options):
    chosen = {"task": "recall", "length": 5, "hidden": 4, "batch_size": 4, "validations": 1}
    return Arm(name, configured(**(chosen | {"updates": 3} | options)))


TINY = Experiment(
    "tiny", "a claim", "a paper", (_tiny("gru", cell="gru"), _tiny("rnn", cell="rnn")),
    (
        Row("gru", ("gru",), "loss", "nats", paper=9.0, goal=9.0),
        Row("rnn", ("rnn",), "loss", "nats"),
    ),
    (("gru", "rnn"),), "by hand", seeds=1,
)  # fmt: skip


class Told(ReproduceWatch):
    def __init__(self):
        self.steps, self.is_out_of_time = [], False

    def ended(self, run, stage, why_not):
        self.steps.append((run.arm.name, run.seed, stage.name, why_not))

    def out_of_time(self):
        self.is_out_of_time = True


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce")
    return Settings(out, out / "new" / "tiny.json", jobs=2)


@pytest.fixture(scope="module")
def first(settings):
    told = Told()
    return reproduce(TINY, settings, told), told


def test_every_arm_is_trained_and_diagnosed(first, settings):
    found, told = first
    assert sorted(told.steps) == sorted(
        (arm, 0, stage, None) for arm in ("gru", "rnn") for stage in ("train", "diagnosis")
    )
    assert found == {k: v for k, v in read_results(settings.results).items() if k != "schema"}
    gru, rnn = found["rows"]
    assert (gru["verdict"], gru["runs"], gru["paper"]) == ("met", 1, 9.0)
    assert gru["ours"] == found["runs"][0]["values"]["loss"]
    assert gru["needs_lag"] == 4
    assert 0 <= rnn["horizon_steps"] <= 5
    assert "--cell gru" in found["runs"][0]["command"]
    assert found["planned_runs"] == 2
    assert found["environment"]["cpu_count"] >= 1


def test_what_is_done_is_not_done_again_and_more_seeds_may_follow(first, settings):
    told = Told()
    assert reproduce(TINY, settings, told)["rows"] == first[0]["rows"]
    assert told.steps == []
    found = reproduce(TINY, replace(settings, seeds=2), told)
    assert sorted(told.steps) == [("gru", 1, "train", None), ("rnn", 1, "train", None)]
    assert [row["runs"] for row in found["rows"]] == [2, 2]


def test_a_run_that_two_tables_share_is_trained_once(first, settings):
    told = Told()
    other = replace(TINY, name="other", arms=TINY.arms[:1], rows=TINY.rows[:1], orders=())
    found = reproduce(other, replace(settings, results=settings.out / "other.json"), told)
    assert told.steps == []
    assert found["rows"][0]["ours"] == first[0]["rows"][0]["values"][0]


def test_arms_whose_quick_form_is_one_run_train_it_once(tmp_path):
    long = replace(_tiny("long", cell="gru", length=9), quick_length=5)
    arms = (long, replace(_tiny("short", cell="gru"), quick_length=5))
    rows = tuple(Row(arm.name, (arm.name,), "loss", "nats") for arm in arms)
    told = Told()
    two = replace(TINY, arms=arms, rows=rows, orders=()).quick()
    found = reproduce(two, Settings(tmp_path, tmp_path / "r.json", jobs=2), told)
    steps = [("long", 0, stage, None) for stage in ("train", "diagnosis")]
    assert told.steps == steps
    assert [row["runs"] for row in found["rows"]] == [1, 1]
    assert found["rows"][0]["ours"] == found["rows"][1]["ours"]


def test_one_that_breaks_does_not_sink_the_rest(tmp_path):
    broken = replace(TINY, arms=(TINY.arms[0], _tiny("rnn", cell="nonsense")))
    told = Told()
    found = reproduce(broken, Settings(tmp_path, tmp_path / "r.json"), told)
    assert [row["runs"] for row in found["rows"]] == [1, 0]
    why = next(why for arm, _, _, why in told.steps if arm == "rnn")
    assert "nonsense" in why
    assert found["rows"][0]["verdict"] == "met"
    assert found["rows"][1]["verdict"] is None


def test_a_spent_budget_leaves_the_rest_for_another_time(tmp_path):
    told = Told()
    long = replace(TINY, arms=tuple(_tiny(a.name, cell="rnn", hidden=n, updates=10**6)
                                    for n, a in enumerate(TINY.arms, 4)))  # fmt: skip
    asked = Settings(tmp_path, tmp_path / "r.json", budget_s=6.0, jobs=1)
    found = reproduce(long, asked, told)
    assert told.is_out_of_time
    assert told.steps == []
    assert [row["runs"] for row in found["rows"]] == [0, 0]
    assert [row["verdict"] for row in found["rows"]] == [None, None]
    assert read_results(asked.results)["planned_runs"] == 2


def test_it_is_refused_while_it_runs_elsewhere(tmp_path):
    with RunLock(tmp_path / "tiny"), pytest.raises(RunBusyError):
        reproduce(TINY, Settings(tmp_path, tmp_path / "r.json"))


@pytest.mark.parametrize(("option", "value"), [("seeds", 0), ("jobs", -1)])
def test_counts_without_a_meaning_are_refused(tmp_path, option, value):
    asked = Settings(tmp_path / "o", tmp_path / "r.json", **{option: value})
    with pytest.raises(ConfigError, match=f"{option} is {value}.*--{option}"):
        reproduce(TINY, asked)


def test_a_run_is_named_by_its_options_wherever_its_data_lie(tmp_path):
    arm = Arm("x", configured(task="music", hidden=4, updates=1), "m.npz")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.npz").touch()
    runs = [planned_run(arm, tmp_path / f, 0, tmp_path) for f in ("one", "two")]
    assert runs[0].folder == runs[1].folder
    assert "DATA/m.npz" in runs[0].command()
    assert str(tmp_path) not in runs[0].command()
    other = replace(arm, config=replace(arm.config, model=replace(arm.config.model, hidden=5)))
    assert planned_run(other, tmp_path / "one", 0, tmp_path).folder != runs[0].folder


def test_tables_that_share_a_run_probe_it_apart(tmp_path):
    """The words of one table and the agreement of another are measured on one LSTM."""
    arm = _tiny("lstm", cell="lstm")
    probes = ("evaluate", "agreement", "programs")
    runs = [planned_run(replace(arm, probe=probe), None, 0, tmp_path) for probe in probes]
    assert len({run.folder for run in runs}) == 1
    assert len({run.output("probe") for run in runs}) == 3
    assert len({run.output("train") for run in runs}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_quick_form_of_a_table_passes_through_every_step(name, tmp_path):
    one = EXPERIMENTS[name]
    if one.files and not DATA.exists():
        pytest.skip("needs the shared data, which are not here")
    told = Told()
    found = reproduce(one.quick(), Settings(tmp_path, tmp_path / "r.json", DATA), told)
    assert [step for step in told.steps if step[3] is not None] == []
    assert all(row["runs"] for row in found["rows"])
    assert all(row["ours"] is not None or row["broken"] for row in found["rows"])
    assert json.loads((tmp_path / "r.json").read_text())["name"] == name
