"""Is a user's own model made and trained again with the cure, and nothing else changed?"""

import importlib
import io
import pkgutil
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn

import throughtime as tt
import throughtime.diagnosis
from throughtime.diagnosis.cure_model import Trained, cure
from throughtime.diagnosis.diagnose import diagnose
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.options import apply_options
from throughtime.diagnosis.training import Training
from throughtime.errors import ConfigError

LAG = 30


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.RNN(3, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def batch():
    return torch.randn(6, 40, 3, generator=torch.Generator().manual_seed(1))


def loss(model, x):
    return (model(x) - x[:, -LAG, :1]).square().mean()


def make(**options):
    return apply_options(Net(), options)


def train(model, **options):
    return float(loss(model, batch()).detach())


def found(**options):
    torch.manual_seed(0)
    return diagnose(make(), batch(), loss, needs_lag=LAG, **options)


def test_both_are_made_and_trained_from_the_same_seed():
    calls = []

    def noting(model, **options):
        calls.append((
            type(model.rnn).__name__,
            model.head.weight[0, 0].item(),
            torch.rand(1).item(),
        ))
        return Trained(train(model), Training(clip_norm=1.0))

    cured = cure(make, noting, found(), seed=3)
    assert [call[0] for call in calls] == ["RNN", "Recurrent"]
    assert calls[0][1:] != (0.0, 0.0)
    assert calls[0][2] == calls[1][2]
    torch.manual_seed(3)
    assert calls[0][1] == Net().head.weight[0, 0].item()
    assert cured.diagnosis.record.training.clip_norm == 1.0
    assert cured.record.code == "vanishing"
    assert cured.record.trials[0].options == {"cell": "gru", "init": ["chrono:60"]}
    assert cured.record.trials[0].is_gone
    assert cured.is_cured == cured.record.trials[0].is_cured
    assert cured.diagnosis.record.needs_lag.steps == LAG


def test_a_score_that_is_known_is_not_trained_for():
    calls = []

    def counting(model, **options):
        calls.append(model)
        return 0.5

    cured = cure(make, counting, found(), score=0.75)
    assert len(calls) == 1
    assert cured.model is calls[0]
    assert (cured.record.before.score, cured.record.trials[0].after.score) == (0.75, 0.5)
    assert cured.is_cured
    assert not cure(make, counting, found(), score=0.25).is_cured


def exploding():
    """The same diagnosis, had it found growth."""
    diagnosis = found()
    options = {"init": ["orthogonal"], "clip_norm": 1.0}
    top = replace(diagnosis.findings[0], code="exploding", options=options)
    return Diagnosis(replace(diagnosis.record, findings=[top]), diagnosis.again)


def test_options_go_to_the_function_that_reads_them():
    diagnosis = exploding()
    seen = {}

    def making(init=("spectral:3",)):
        seen["init"] = init
        return apply_options(Net(), {"init": list(init)})

    def training(model, clip_norm=0.0):
        seen["clip_norm"] = clip_norm
        return 1.0

    cured = cure(making, training, diagnosis, score=1.5)
    assert seen == {"init": ["orthogonal"], "clip_norm": 1.0}
    assert cured.is_cured


@pytest.mark.parametrize(
    ("making", "training", "what"),
    [
        (Net, train, "cell='gru', init=\\['chrono:60'\\], which it does not take"),
        (lambda **o: Net(), lambda: 0.0, "calls <lambda> with no options, which it does not take"),
    ],
)
def test_functions_that_do_not_know_an_option_are_told_which(making, training, what):
    with pytest.raises(ConfigError, match=what):
        cure(making, training, found())


def test_the_training_function_is_asked_before_anything_is_trained():
    def training(model):
        raise AssertionError("trained")

    with pytest.raises(ConfigError, match=r"clip_norm=1\.0"):
        cure(make, training, exploding())


def test_a_score_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="returned a NoneType"):
        cure(make, lambda model, **options: None, found())


def test_a_healthy_model_has_nothing_to_cure():
    torch.manual_seed(0)
    gru = make(cell="gru", init=["chrono:90"])
    diagnosis = diagnose(gru, batch(), loss, needs_lag=LAG)
    with pytest.raises(ConfigError, match="nothing to cure"):
        cure(make, train, diagnosis)


def test_the_view_shows_both_sides():
    cured = cure(make, train, found())
    console = Console(width=80, file=io.StringIO())
    console.print(cured)
    text = console.file.getvalue()
    assert "before" in text
    assert "--cell gru --init chrono:60" in text
    assert "vanishing" in text


def test_a_layer_is_replaced_with_its_sizes_and_manners():
    model = nn.ModuleDict({
        "a": nn.RNN(3, 8, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    })
    apply_options(model, {"cell": "lstm", "init": ["chrono:9"]})
    new = model["a"]
    assert isinstance(new, tt.Recurrent)
    assert (new.cell.name, new.num_layers, new.batch_first, new.bidirectional) == (
        "lstm",
        2,
        True,
        True,
    )
    assert new(torch.randn(4, 5, 3, dtype=torch.float64))[0].shape == (4, 5, 16)
    assert apply_options(model, {}) is model


def test_options_that_no_layer_takes_are_refused():
    with pytest.raises(ConfigError, match="clip_norm, hidden cannot be applied"):
        apply_options(Net(), {"hidden": 4, "clip_norm": 1.0})
    with pytest.raises(ConfigError, match="no layer to make of gru"):
        apply_options(nn.Linear(3, 3), {"cell": "gru"})
    with pytest.raises(ConfigError, match="proj_size=2"):
        apply_options(nn.LSTM(3, 4, proj_size=2), {"cell": "gru"})


def test_no_module_takes_the_place_of_the_function():
    for module in pkgutil.iter_modules(throughtime.diagnosis.__path__):
        importlib.import_module(f"throughtime.diagnosis.{module.name}")
    assert throughtime.diagnosis.cure is cure
    assert throughtime.diagnosis.diagnose is diagnose
