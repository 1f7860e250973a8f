"""Does a state that was saved go on with the same bits?"""

import copy

import pytest
import torch

from throughtime.cells import CATALOGUE
from throughtime.errors import CheckpointError
from throughtime.models import LanguageModel
from throughtime.train.config import OptimiserConfig
from throughtime.train.optimise import make_optimiser
from throughtime.train.state import TrainingState, load_weights, weights
from train.tiny import assert_equal_bits

OPTIMISERS = ("sgd", "nesterov", "rmsprop", "adam", "adamw")
V = 9


def fresh_state(cell="lstm", optimiser="adam", seed=0, hidden=4):
    torch.manual_seed(seed)
    model = LanguageModel(CATALOGUE[cell], V, hidden, 2, embedding_size=3, dropout=0.3)
    momentum = None if optimiser.startswith("adam") else 0.9
    options = OptimiserConfig(optimiser=optimiser, momentum=momentum)
    return TrainingState(model, make_optimiser(options, model.parameters()))


def advance(state, updates):
    """Updates whose symbols and dropout come from torch's generator."""
    for _ in range(updates):
        tokens, targets = torch.randint(V, (2, 5, 3))
        nll, state.hx = state.model.nll_nats(tokens, targets, state.hx)
        state.optimiser.zero_grad()
        nll.mean().backward()
        state.optimiser.step()
        state.hx = torch.utils._pytree.tree_map(torch.Tensor.detach, state.hx)
        state.update += 1
        state.elapsed_s += 0.5
    return state


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "lru"])
def test_a_restored_state_goes_on_with_the_same_bits(cell, optimiser):
    state = advance(fresh_state(cell, optimiser), 3)
    tensors = {n: t.clone() for n, t in state.tensors().items()}
    meta = copy.deepcopy(state.meta())
    advance(state, 3)
    other = fresh_state(cell, optimiser, seed=7)
    other.restore(tensors, meta)
    assert other.update == 3
    advance(other, 3)
    assert_equal_bits(other.tensors(), state.tensors())
    assert other.meta() == state.meta()


@pytest.mark.parametrize("left_out", ["model.head.bias", "optimiser.0.exp_avg", "hx.0", "rng.cpu"])
def test_each_part_of_the_state_matters(left_out):
    state = advance(fresh_state(), 3)
    tensors, meta = {n: t.clone() for n, t in state.tensors().items()}, state.meta()
    advance(state, 2)
    other = advance(fresh_state(seed=7), 1)
    tensors[left_out] = other.tensors()[left_out]
    other.restore(tensors, meta)
    advance(other, 2)
    assert not all(torch.equal(t, other.tensors()[n]) for n, t in state.tensors().items())


@pytest.mark.parametrize(
    "hx", [None, torch.ones(2), (torch.ones(1), torch.zeros(2)), [(torch.ones(1),), torch.ones(3)]]
)
def test_a_carried_state_of_any_shape_comes_back(hx):
    state, other = fresh_state(), fresh_state()
    state.hx = hx
    other.restore(state.tensors(), state.meta())
    assert type(other.hx) is type(hx)
    flat, spec = torch.utils._pytree.tree_flatten(hx)
    flat_too, spec_too = torch.utils._pytree.tree_flatten(other.hx)
    assert spec == spec_too
    assert all(torch.equal(a, b) for a, b in zip(flat, flat_too, strict=True) if a is not None)


def test_the_weights_of_another_model_are_refused():
    state, other = fresh_state(), fresh_state(hidden=5)
    with pytest.raises(CheckpointError, match=r"model's is torch.float32 \[\d+"):
        load_weights(other.model, weights(state.model))
    fewer = weights(state.model)
    del fewer["head.bias"]
    with pytest.raises(CheckpointError, match=r"differ in head\.bias"):
        load_weights(state.model, fewer)
    with pytest.raises(CheckpointError, match=r"torch\.float64"):
        load_weights(state.model, {n: t.double() for n, t in weights(state.model).items()})


def test_a_shared_weight_is_kept_once():
    model = LanguageModel(CATALOGUE["gru"], V, 4, embedding_size=4, tied=True)
    assert sum(t.shape == (V, 4) for t in weights(model).values()) == 1
