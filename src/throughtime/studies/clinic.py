"""How is a patient built, spoilt, trained and examined?"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.cells.notation import parse_cell
from throughtime.diagnosis.diagnose import diagnose
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.training import Training
from throughtime.models.sequence import answer_losses
from throughtime.nn import GRU, LSTM, RNN, Recurrent
from throughtime.nn.init import parse_init
from throughtime.studies.exercises import Lessons
from throughtime.studies.patients import Patient, Setting

__all__ = ["PLANTS", "Trained", "examine", "make", "train"]

_ROWS = 32
_STREAM_STEPS = 120  # of a stream that is diagnosed
_TORCH = {"rnn": nn.RNN, "rnn_relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_OURS = {"rnn": RNN, "rnn_relu": RNN, "lstm": LSTM, "gru": GRU}
_SETTLED_PART = 0.5
_DEAD_PART = 0.75  # of the units


class Trained(NamedTuple):
    """What came of a training: the mean loss of its last tenth, and what was seen of the loop."""

    score: float
    training: Training


class _Answers(nn.Module):
    """A recurrent layer of whatever library, and one matrix; judged as a `SequenceModel`."""

    def __init__(self, recurrent: nn.Module, features: int, output_size: int, answer: str) -> None:
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Linear(features, output_size)
        self.answer = answer

    def loss(self, lessons: Lessons, hx: Any = None) -> tuple[Tensor, Any]:
        """The mean loss over counted steps, and the state to carry on."""
        features, hx = self.recurrent(lessons.inputs, hx)
        outputs = self.head(features[lessons.is_counted])
        losses = answer_losses(self.answer, outputs, lessons.targets[lessons.is_counted])
        return losses.mean(), hx


def make(patient: Patient, setting: Setting) -> _Answers:
    """The model of a patient with a setting, by the patient's seed."""
    torch.manual_seed(patient.seed)
    exercise = patient.exercise
    layer = _layer(patient, setting)
    model = _Answers(layer, setting.hidden, exercise.output_size, exercise.answer)
    if setting.plant is not None:
        with torch.no_grad():
            PLANTS[setting.plant](layer)
    return model


def _layer(patient: Patient, setting: Setting) -> nn.Module:
    size, hidden = patient.exercise.input_size, setting.hidden
    init = tuple(one for text in setting.init for one in parse_init(text)) or None
    if setting.cell not in _OURS:  # a cure may ask for a cell that torch does not have
        return Recurrent(parse_cell(setting.cell), size, hidden, init=init)
    options = {"nonlinearity": "relu"} if setting.cell == "rnn_relu" else {}
    layer = _OURS[setting.cell](size, hidden, init=init, **options)
    if patient.library == "ours":
        return layer
    theirs = _TORCH[setting.cell](size, hidden, **options)
    theirs.load_state_dict(layer.state_dict())
    return theirs


def _dead_relu(layer: Any) -> None:
    """Three quarters of the units never fire: their bias is far below what they read."""
    dead = int(_DEAD_PART * layer.hidden_size)
    layer.bias_ih_l0[:dead] = -30.0


def _frozen(layer: Any) -> None:
    """Three quarters of a GRU's units keep what they start from for ever."""
    hidden = layer.hidden_size
    layer.bias_ih_l0[hidden : hidden + int(_DEAD_PART * hidden)] = 60.0


def _loud_input(layer: Any) -> None:
    """The input comes as it was measured: a thousand times too large."""
    layer.weight_ih_l0.mul_(1000.0)


def _rank_one(layer: Any) -> None:
    """The state hands on one direction alone, and that one well."""
    hidden = layer.hidden_size
    direction = torch.rand(hidden) + 0.5
    direction /= direction.norm()
    layer.weight_hh_l0.copy_(1.02 * torch.outer(direction, direction))
    layer.weight_ih_l0.mul_(0.05)
    layer.bias_ih_l0.zero_()
    layer.bias_hh_l0.zero_()
    if getattr(layer, "nonlinearity", "tanh") == "relu":
        layer.weight_ih_l0.abs_()  # all units stay on the side where relu hands on


PLANTS: dict[str, Callable[[Any], None]] = {
    "dead relu": _dead_relu,
    "frozen": _frozen,
    "loud input": _loud_input,
    "rank one": _rank_one,
}
"""What can be done to the weights of a layer."""


def train(model: _Answers, patient: Patient, setting: Setting) -> Trained:
    """Train a patient as its setting says."""
    torch.manual_seed(patient.seed)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=setting.learning_rate)
    losses, norms = [], []
    hx: Any = None
    for lessons in _updates(patient, setting):
        loss, hx = model.loss(lessons, hx if setting.state_carried else None)
        hx = _detached(hx)
        optimiser.zero_grad()
        loss.backward()
        bound = setting.clip_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), bound))
        losses.append(float(loss.detach()))
        norms.append(norm)
        if np.isfinite(norm):
            optimiser.step()
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    settled = norms[int(len(norms) * _SETTLED_PART) :]
    facts = Training(
        setting.window_steps, setting.state_carried, setting.clip_norm or None, settled
    )
    return Trained(float(np.mean(last)), facts)


def _detached(hx: Any) -> Any:
    return hx.detach() if isinstance(hx, Tensor) else tuple(part.detach() for part in hx)


def _updates(patient: Patient, setting: Setting) -> Any:
    """The lessons of each update, in order."""
    exercise = patient.exercise
    if exercise.is_stream:
        window = setting.window_steps
        assert window is not None, "a stream is read in windows"
        rng = np.random.default_rng([patient.seed, 1])
        whole = exercise.drawn(rng, window * setting.updates, _ROWS)
        for start in range(0, window * setting.updates, window):
            yield Lessons(*(part[start : start + window] for part in whole))
        return
    for update in range(setting.updates):
        yield exercise.drawn(np.random.default_rng([patient.seed, 1, update]), 0, _ROWS)


def examine(model: _Answers, patient: Patient, setting: Setting, training: Training) -> Diagnosis:
    """Diagnose a patient on lessons it has not seen."""
    lessons = patient.exercise.drawn(np.random.default_rng([patient.seed, 2]), _STREAM_STEPS, _ROWS)
    if setting.data_fault == "nan":
        lessons.inputs[len(lessons.inputs) // 3, 0, 0] = float("nan")
    return diagnose(
        model, lessons, lambda m, batch: m.loss(batch)[0], training=training,
        needs_lag=patient.exercise.needs_lag, title=patient.name,
    )  # fmt: skip
