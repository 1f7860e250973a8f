"""Is swapping nn.LSTM for tt.LSTM a change of nothing? In float64, for every constructor option."""

import pytest
import torch
from torch import nn

import throughtime as tt
from conformance.torch_parity import CELLS, FORMS, LAYERS, H, I, arguments, errors, pair, results
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["torch.nn", torch.float64].bound


def named(case):
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def too_large(found):
    return {key: error for key, error in found.items() if error > BOUND}


@pytest.mark.parametrize("engine", ["reference", "auto"])
@pytest.mark.parametrize("case", LAYERS, ids=named)
def test_layer_gives_torchs_numbers(case, engine):
    for form in FORMS:
        for state in (True, False):
            found = errors(*case, form, state=state, engine=engine)
            assert too_large(found) == {}, (form, state)


@pytest.mark.parametrize("engine", ["reference", "auto"])
@pytest.mark.parametrize("case", CELLS, ids=named)
def test_cell_gives_torchs_numbers(case, engine):
    for form in ("batched", "unbatched"):
        for state in (True, False):
            found = errors(*case, form, state=state, engine=engine)
            assert too_large(found) == {}, (form, state)


@pytest.mark.parametrize("case", LAYERS + CELLS, ids=named)
def test_state_dicts_load_both_ways(case):
    name, options = case
    ours, theirs = pair(name, options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    fresh = getattr(tt, name)(I, H, **options, dtype=torch.float64)
    theirs.load_state_dict(fresh.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.parametrize("case", LAYERS + CELLS, ids=named)
def test_the_same_seed_gives_the_same_weights(case):
    name, options = case
    made = []
    for library in (tt, nn):
        torch.manual_seed(0)
        made.append(getattr(library, name)(I, H, **options).state_dict())
    for key, value in made[1].items():
        assert torch.equal(made[0][key], value), key


@pytest.mark.parametrize("case", LAYERS + CELLS, ids=named)
def test_attributes_and_repr_are_torchs(case):
    name, options = case
    ours, theirs = pair(name, options)
    assert repr(ours) == repr(theirs)
    for attribute in ("input_size", "hidden_size", "bias", *options):
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    if name.endswith("Cell"):
        return
    for attribute in ("mode", "dropout", "proj_size", "num_layers", "bidirectional"):
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for our_layer, their_layer in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert all(map(torch.equal, our_layer, their_layer))
    ours.flatten_parameters()  # called all over user code


@pytest.mark.parametrize(
    ("name", "positional"),
    [
        ("RNN", (I, H, 2, "relu", False, True, 0.0, True)),
        ("LSTM", (I, H, 2, False, True, 0.0, True, 2)),
        ("GRU", (I, H, 2, False, True, 0.0, True)),
        ("RNNCell", (I, H, False, "relu")),
        ("LSTMCell", (I, H, False)),
        ("GRUCell", (I, H, False)),
    ],
)
def test_arguments_stand_in_torchs_order(name, positional):
    assert repr(getattr(tt, name)(*positional)) == repr(getattr(nn, name)(*positional))


@pytest.mark.parametrize("case", LAYERS[:1] + CELLS[:1], ids=named)
def test_the_input_may_be_given_by_torchs_names(case):
    name, options = case
    ours, theirs = pair(name, options)
    given = arguments(name, options, "batched", state=True)
    got, want = (layer(input=given["x"], hx=given["h_0"]) for layer in (ours, theirs))
    assert error_to_largest(got[0].detach(), want[0].detach()) <= BOUND


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (1.0, True), (0.0, True)])
def test_dropout_between_layers_where_it_is_not_random(name, rate, training):
    options = {"num_layers": 3, "batch_first": False, "bidirectional": True, "dropout": rate}
    ours, theirs = (layer.train(training) for layer in pair(name, options))
    given = arguments(name, options, "batched", state=True)
    got, want = results(ours, given, "batched"), results(theirs, given, "batched")
    assert too_large({key: error_to_largest(got[key], want[key]) for key in want}) == {}


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_dropout_between_layers_is_drawn_in_training(name):
    options = {"num_layers": 2, "batch_first": False, "bidirectional": False, "dropout": 0.5}
    layer, _ = pair(name, options)
    x = arguments(name, options, "batched", state=False)["x"]
    outputs = [layer.train(training)(x)[0] for training in (True, True, False, False)]
    assert not torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[2], outputs[3])


def test_dropout_with_one_layer_warns_as_torch_does():
    with pytest.warns(UserWarning, match="dropout"):
        tt.LSTM(I, H, dropout=0.5)


def test_the_comparison_sees_one_wrong_weight():
    def break_layer(layer):
        with torch.no_grad():
            layer.weight_hh_l0[0, 0] += 1e-9
        return layer

    options = {"num_layers": 1, "batch_first": False, "bidirectional": False}
    assert too_large(errors("LSTM", options, "batched", state=True, break_layer=break_layer)) != {}
