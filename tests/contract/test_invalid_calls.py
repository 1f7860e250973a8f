"""Is every wrong call refused, in words that name the argument, what came and what was expected?

None may reach a kernel: torch's own LSTMCell ends the process when it is given a tensor as state.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.errors import ThroughtimeError

T, B, I, H = 5, 2, 3, 4
POSITIVE = "greater than zero"
X = torch.zeros(T, B, I)
STATE = torch.zeros(1, B, H)
PACKED = pack_padded_sequence(X, [5, 3])

lstm = tt.LSTM(I, H)
gru = tt.GRU(I, H)
lstm_cell = tt.LSTMCell(I, H)
gru_cell = tt.GRUCell(I, H)


@tt.cell("h", extras=[tt.Extra("gap", width=1)])
def timed(x: Any, h: Any, gap: Any) -> Any:
    return tt.tanh(tt.affine("a", x, h)) * gap


aware = tt.Recurrent(timed, I, H)


@dataclass(frozen=True)
class Invalid:
    """A call, and what its refusal must say; `like` is what torch or Python raises for it."""

    call: Callable[[], Any]
    argument: str
    came: str
    expected: str
    like: type[Exception] = ValueError


CONSTRUCTORS = {
    "input_size negative": Invalid(lambda: tt.LSTM(-1, H), "input_size", "-1", POSITIVE),
    "input_size a float": Invalid(
        lambda: tt.LSTM(3.0, H), "input_size", "float", "of type int", TypeError
    ),
    "input_size a string": Invalid(
        lambda: tt.GRU("3", H), "input_size", "str", "of type int", TypeError
    ),
    "hidden_size zero": Invalid(lambda: tt.LSTM(I, 0), "hidden_size", "0", POSITIVE),
    "hidden_size negative": Invalid(lambda: tt.RNN(I, -2), "hidden_size", "-2", POSITIVE),
    "hidden_size a float": Invalid(
        lambda: tt.GRU(I, 4.0), "hidden_size", "float", "of type int", TypeError
    ),
    "hidden_size None": Invalid(
        lambda: tt.GRU(I, None), "hidden_size", "NoneType", "of type int", TypeError
    ),
    "hidden_size too few": Invalid(
        lambda: tt.Recurrent(timed, I, (4, 5), num_layers=3), "hidden_size", "2", "3"
    ),
    "hidden_size with a zero": Invalid(
        lambda: tt.Recurrent(timed, I, (4, 0), num_layers=2), "hidden_size", "0", POSITIVE
    ),
    "num_layers zero": Invalid(lambda: tt.LSTM(I, H, 0), "num_layers", "0", POSITIVE),
    "num_layers negative": Invalid(lambda: tt.GRU(I, H, -1), "num_layers", "-1", POSITIVE),
    "num_layers a float": Invalid(
        lambda: tt.GRU(I, H, 1.5), "num_layers", "float", "of type int", TypeError
    ),
    "nonlinearity unknown": Invalid(
        lambda: tt.RNN(I, H, nonlinearity="gelu"), "nonlinearity", "'gelu'", "'tanh'"
    ),
    "nonlinearity None": Invalid(
        lambda: tt.RNN(I, H, nonlinearity=None), "nonlinearity", "None", "'tanh'"
    ),
    "bias a number": Invalid(
        lambda: tt.LSTM(I, H, bias=1), "bias", "int", "of type bool", TypeError
    ),
    "bias a string": Invalid(
        lambda: tt.GRU(I, H, bias="no"), "bias", "str", "of type bool", TypeError
    ),
    "batch_first a number": Invalid(
        lambda: tt.LSTM(I, H, batch_first=0), "batch_first", "int", "of type bool", TypeError
    ),
    "bidirectional None": Invalid(
        lambda: tt.GRU(I, H, bidirectional=None),
        "bidirectional",
        "NoneType",
        "of type bool",
        TypeError,
    ),
    "dropout negative": Invalid(
        lambda: tt.LSTM(I, H, 2, dropout=-0.1), "dropout", "-0.1", "[0, 1]"
    ),
    "dropout above one": Invalid(lambda: tt.GRU(I, H, 2, dropout=1.5), "dropout", "1.5", "[0, 1]"),
    "dropout not a number": Invalid(
        lambda: tt.GRU(I, H, 2, dropout=float("nan")), "dropout", "nan", "[0, 1]"
    ),
    "dropout a string": Invalid(
        lambda: tt.GRU(I, H, 2, dropout="0.5"), "dropout", "'0.5'", "[0, 1]"
    ),
    "dropout a bool": Invalid(lambda: tt.GRU(I, H, 2, dropout=True), "dropout", "True", "[0, 1]"),
    "proj_size as large": Invalid(
        lambda: tt.LSTM(I, H, proj_size=H), "proj_size", "4", "less than hidden_size=4"
    ),
    "proj_size negative": Invalid(lambda: tt.LSTM(I, H, proj_size=-1), "proj_size", "-1", "0"),
    "proj_size a float": Invalid(
        lambda: tt.LSTM(I, H, proj_size=1.5), "proj_size", "float", "of type int", TypeError
    ),
    "proj_size without a projection": Invalid(
        lambda: tt.Recurrent(CATALOGUE["gru"], I, H, proj_size=2), "proj_size", "2", "0"
    ),
    "dtype of whole numbers": Invalid(
        lambda: tt.LSTM(I, H, dtype=torch.int64), "dtype", "int64", "floating-point", TypeError
    ),
    "dtype a string": Invalid(
        lambda: tt.LSTM(I, H, dtype="float32"), "dtype", "'float32'", "torch.float32", TypeError
    ),
    "learn_initial_state a number": Invalid(
        lambda: tt.LSTM(I, H, learn_initial_state=1),
        "learn_initial_state",
        "int",
        "of type bool",
        TypeError,
    ),
    "engine unknown": Invalid(lambda: tt.LSTM(I, H, engine="fast"), "engine", "'fast'", "auto"),
    "engine None": Invalid(lambda: tt.LSTM(I, H, engine=None), "engine", "None", "auto"),
    "cell a name": Invalid(
        lambda: tt.Recurrent("lstm", I, H), "cell", "str", "CATALOGUE", TypeError
    ),
    "cell torch's class": Invalid(
        lambda: tt.Recurrent(torch.nn.LSTM, I, H), "cell", "type", "CATALOGUE", TypeError
    ),
    "single step, hidden_size zero": Invalid(
        lambda: tt.LSTMCell(I, 0), "hidden_size", "0", POSITIVE
    ),
    "single step, input_size negative": Invalid(
        lambda: tt.GRUCell(-3, H), "input_size", "-3", POSITIVE
    ),
    "single step, nonlinearity": Invalid(
        lambda: tt.RNNCell(I, H, nonlinearity="selu"), "nonlinearity", "'selu'", "'tanh'"
    ),
    "single step, engine": Invalid(
        lambda: tt.GRUCell(I, H, engine="fast"), "engine", "'fast'", "auto"
    ),
}

INPUTS = {
    "x None": Invalid(lambda: lstm(None), "input", "NoneType", "tensor", TypeError),
    "x a list": Invalid(lambda: lstm([[0.0] * I]), "input", "list", "tensor", TypeError),
    "x of one axis": Invalid(lambda: lstm(torch.zeros(I)), "input", "1D", "[T, B, I]"),
    "x of four axes": Invalid(lambda: gru(torch.zeros(1, T, B, I)), "input", "4D", "[T, B, I]"),
    "x with too many features": Invalid(lambda: lstm(torch.zeros(T, B, 7)), "input_size", "7", "3"),
    "x unbatched, features": Invalid(lambda: gru(torch.zeros(T, 7)), "input_size", "7", "3"),
    "x of whole numbers": Invalid(lambda: lstm(X.long()), "input", "int64", "float32"),
    "x of another dtype": Invalid(lambda: lstm(X.double()), "input", "float64", "float32"),
    "x complex": Invalid(lambda: gru(X.to(torch.complex64)), "input", "complex64", "float32"),
    "x on another device": Invalid(
        lambda: lstm(X.to("meta")), "input", "meta", "cpu", RuntimeError
    ),
    "x packed, features": Invalid(
        lambda: lstm(pack_padded_sequence(torch.zeros(T, B, 7), [5, 3])), "input_size", "7", "3"
    ),
    "x packed, dtype": Invalid(lambda: lstm(PACKED.double()), "input", "float64", "float32"),
    "single step, x of three axes": Invalid(lambda: gru_cell(X), "input", "3D", "[B, I]"),
    "single step, x a number": Invalid(
        lambda: gru_cell(torch.tensor(1.0)), "input", "0D", "[B, I]"
    ),
    "single step, features": Invalid(
        lambda: lstm_cell(torch.zeros(B, 7)), "input_size", "7", "3", RuntimeError
    ),
    "single step, dtype": Invalid(lambda: gru_cell(X[0].double()), "input", "float64", "float32"),
}

STATES = {
    "hx of LSTM a tensor": Invalid(lambda: lstm(X, STATE), "hx", "tensor", "tuple", TypeError),
    "hx of LSTM one state": Invalid(lambda: lstm(X, (STATE,)), "hx", "1", "2"),
    "hx of LSTM three states": Invalid(lambda: lstm(X, (STATE,) * 3), "hx", "3", "2"),
    "hx of LSTM without states": Invalid(
        lambda: lstm(X, (None, None)), "hx", "NoneType", "tensor", TypeError
    ),
    "hx of LSTM a dict": Invalid(lambda: lstm(X, {"h": STATE}), "hx", "dict", "tuple", TypeError),
    "hx of LSTM a number": Invalid(lambda: lstm(X, 0.0), "hx", "float", "tuple", TypeError),
    "hx of GRU a tuple": Invalid(
        lambda: gru(X, (STATE, STATE)), "hx", "tuple", "tensor", TypeError
    ),
    "hx with other units": Invalid(
        lambda: gru(X, torch.zeros(1, B, 9)), "hx", "[1, 2, 9]", "(1, 2, 4)", RuntimeError
    ),
    "hx with other rows": Invalid(
        lambda: lstm(X, (STATE, torch.zeros(1, 9, H))), "hx", "[1, 9, 4]", "(1, 2, 4)", RuntimeError
    ),
    "hx with other layers": Invalid(
        lambda: gru(X, torch.zeros(9, B, H)), "hx", "[9, 2, 4]", "(1, 2, 4)", RuntimeError
    ),
    "hx unbatched, x batched": Invalid(
        lambda: gru(X, torch.zeros(1, H)), "hx", "[1, 4]", "(1, 2, 4)", RuntimeError
    ),
    "hx batched, x unbatched": Invalid(
        lambda: gru(X[:, 0], STATE), "hx", "[1, 2, 4]", "(1, 4)", RuntimeError
    ),
    "hx of another dtype": Invalid(lambda: gru(X, STATE.double()), "hx", "float64", "float32"),
    "hx on another device": Invalid(
        lambda: gru(X, STATE.to("meta")), "hx", "meta", "cpu", RuntimeError
    ),
    "hx for a packed batch": Invalid(
        lambda: gru(PACKED, torch.zeros(1, 9, H)), "hx", "[1, 9, 4]", "(1, 2, 4)", RuntimeError
    ),
    "hx of layers with other widths": Invalid(
        lambda: tt.Recurrent(CATALOGUE["gru"], I, (4, 6), num_layers=2)(X, STATE),
        "hx",
        "tensor",
        "list of 2",
    ),
    "single step, LSTM's hx a tensor": Invalid(
        lambda: lstm_cell(X[0], torch.zeros(2, B, H)), "hx", "Tensor", "tuple", TypeError
    ),
    "single step, LSTM's hx of one axis": Invalid(
        lambda: lstm_cell(X[0, 0], torch.zeros(H)), "hx", "Tensor", "tuple", TypeError
    ),
    "single step, GRU's hx a tuple": Invalid(
        lambda: gru_cell(X[0], (STATE[0],)), "hx", "tuple", "tensor", TypeError
    ),
    "single step, hx of four axes": Invalid(
        lambda: lstm_cell(X[0], (STATE[None], STATE[None])), "hx[0]", "4D", "2D"
    ),
    "single step, hx with other units": Invalid(
        lambda: gru_cell(X[0], torch.zeros(B, 9)), "hidden0", "9", "4", RuntimeError
    ),
    "single step, hx with other rows": Invalid(
        lambda: gru_cell(X[0], torch.zeros(9, H)), "hidden0", "9", "2", RuntimeError
    ),
    "single step, hx of another dtype": Invalid(
        lambda: gru_cell(X[0], STATE[0].double()), "hx", "float64", "float32"
    ),
    "single step, hx a list of numbers": Invalid(
        lambda: lstm_cell(X[0], [0.0, 0.0]), "hx", "float", "tensor", TypeError
    ),
}

LENGTHS = {
    "lengths negative": Invalid(lambda: lstm(X, lengths=[5, -1]), "lengths", "-1", "0 to 5"),
    "lengths longer than x": Invalid(
        lambda: lstm(X, lengths=torch.tensor([6, 2])), "lengths", "6", "5"
    ),
    "lengths fractional": Invalid(
        lambda: lstm(X, lengths=torch.tensor([4.5, 2.0])), "lengths", "float32", "whole", TypeError
    ),
    "lengths with a fraction": Invalid(
        lambda: lstm(X, lengths=[4, 2.5]), "lengths", "2.5", "whole", TypeError
    ),
    "lengths bools": Invalid(
        lambda: lstm(X, lengths=torch.tensor([True, False])), "lengths", "bool", "whole", TypeError
    ),
    "lengths with None": Invalid(
        lambda: lstm(X, lengths=[5, None]), "lengths", "None", "whole", TypeError
    ),
    "lengths too few": Invalid(lambda: lstm(X, lengths=[5]), "lengths", "[1]", "[2]"),
    "lengths of two axes": Invalid(
        lambda: lstm(X, lengths=torch.ones(2, 1, dtype=torch.int64)), "lengths", "[2, 1]", "[2]"
    ),
    "lengths one number": Invalid(lambda: lstm(X, lengths=5), "lengths", "int", "list", TypeError),
    "lengths a string": Invalid(lambda: lstm(X, lengths="53"), "lengths", "str", "list", TypeError),
    "lengths with a packed batch": Invalid(
        lambda: lstm(PACKED, lengths=[5, 3]), "lengths", "PackedSequence", "its own"
    ),
    "lengths without a batch": Invalid(
        lambda: lstm(X[:, 0], lengths=[5, 3]), "lengths", "[5, 3]", "[T, B, I]"
    ),
}

MASKS_AND_EXTRAS = {
    "reset of whole numbers": Invalid(
        lambda: lstm(X, reset=torch.zeros(T, B, dtype=torch.int64)),
        "reset",
        "int64",
        "bool",
        TypeError,
    ),
    "reset a list": Invalid(
        lambda: lstm(X, reset=[[False] * B] * T), "reset", "list", "bool", TypeError
    ),
    "reset batch first": Invalid(
        lambda: lstm(X, reset=torch.zeros(B, T, dtype=torch.bool)), "reset", "[2, 5]", "[5, 2]"
    ),
    "reset of one axis": Invalid(
        lambda: lstm(X, reset=torch.zeros(T, dtype=torch.bool)), "reset", "[5]", "[5, 2]"
    ),
    "extras missing": Invalid(lambda: aware(X), "extras", "lacks", "'gap'"),
    "extras unknown": Invalid(
        lambda: lstm(X, extras={"gap": torch.ones(T, B, 1)}), "extras", "'gap'", "no extras"
    ),
    "extras of another shape": Invalid(
        lambda: aware(X, extras={"gap": torch.ones(T, 9, 1)}), "extras", "[5, 9, 1]", "[5, 2, 1]"
    ),
    "extras of whole numbers": Invalid(
        lambda: aware(X, extras={"gap": torch.ones(T, B, 1).long()}),
        "extras",
        "int64",
        "floating-point",
        TypeError,
    ),
    "extras a number": Invalid(
        lambda: aware(X, extras={"gap": 1.0}), "extras", "float", "tensor", TypeError
    ),
    "extras a tensor": Invalid(
        lambda: aware(X, extras=torch.ones(T, B, 1)), "extras", "Tensor", "dict", TypeError
    ),
}

CALLS = CONSTRUCTORS | INPUTS | STATES | LENGTHS | MASKS_AND_EXTRAS


def test_there_are_at_least_sixty():
    assert len(CALLS) >= 60


@pytest.mark.parametrize("name", CALLS)
def test_the_call_is_refused_in_words_that_help(name):
    invalid = CALLS[name]
    with pytest.raises(ThroughtimeError) as caught:
        invalid.call()
    message = str(caught.value)
    for part in (invalid.argument, invalid.came, invalid.expected):
        assert re.search(rf"(?<!\w){re.escape(part)}(?!\w)", message), (part, message)
    assert isinstance(caught.value, invalid.like), type(caught.value).__mro__


@pytest.mark.parametrize("state", ["torch.zeros(2, 3, 3)", "torch.zeros(3)", "torch.zeros(0)"])
def test_a_tensor_as_state_does_not_end_the_process(state):
    code = f"""
import torch, throughtime as tt
try:
    tt.LSTMCell(3, 3)(torch.randn(3), {state})
except tt.errors.ThroughtimeError:
    print("refused")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "refused"), ended.stderr
