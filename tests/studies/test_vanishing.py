"""Does the demo measure what it says, on networks of which it is known?"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from throughtime.errors import ConfigError
from throughtime.studies import vanishing as study
from throughtime.studies.vanishing import NAMES, VanishingWatch, vanishing


class Heard(VanishingWatch):
    def __init__(self):
        self.begun_names, self.updates, self.rows = [], 0, []

    def begun(self, name):
        self.begun_names.append(name)

    def updated(self, update):
        self.updates += 1

    def ended(self, row):
        self.rows.append(row)


@pytest.fixture(scope="module")
def short():
    heard = Heard()
    return vanishing(updates=3, watch=heard), heard


def test_every_cell_is_trained_and_measured(short):
    found, heard = short
    assert [row.cell for row in found.rows] == list(NAMES)
    assert heard.begun_names == list(NAMES.values())
    assert heard.updates == 3 * len(NAMES)
    assert heard.rows == found.rows
    assert (found.length, found.needs_lag) == (40, 32)
    for row in found.rows:
        assert not row.is_solved  # by three updates
        assert 0.5 < row.wrong_share <= 1.0
        for memory in (row.before, row.after):
            assert len(memory.share_by_lag) == found.length
            assert memory.share_by_lag[0] == 1.0
            assert memory.share_at_need == memory.share_by_lag[found.needs_lag]
            far = [lag for lag, share in enumerate(memory.share_by_lag) if share >= 0.01]
            assert memory.horizon_steps == max(far)
            assert memory.is_beyond == (memory.horizon_steps == found.length - 1)
        assert row.before.share_by_lag != row.after.share_by_lag


def test_the_bound_of_the_tanh_network_is_the_notes(short):
    memory = short[0].rows[0].before
    assert memory.bound_factor is not None
    for lag, (bound, share) in enumerate(
        zip(memory.bound_by_lag, memory.share_by_lag, strict=True)
    ):
        assert bound == pytest.approx(memory.bound_factor**lag, rel=1e-9)
        assert share <= bound * (1 + 1e-6)


def test_horizons_are_those_of_brute_force(short):
    """An untrained tanh network's errors, from the gradients of an unfolded copy of it."""
    found = short[0]
    task = study.TemporalOrder(study.LENGTH)
    _, model = study.prepared(study.read_variants("rnn")[0], task, updates=3, seed=0)
    layer = model.recurrent
    batch = task.batch(np.random.default_rng([0, 3]), 32)  # as `TaskLesson` draws update 3
    inputs, targets, asked = (torch.from_numpy(part) for part in batch[:3])
    h = [torch.zeros(inputs.shape[1], study.UNITS, requires_grad=True)]
    for x in inputs:
        pre = x @ layer.weight_ih_l0.T + h[-1] @ layer.weight_hh_l0.T + layer.bias_l0
        h.append(pre.tanh())
    loss = model.losses(model.head(h[-1]), targets[-1]).mean()
    assert asked[-1].all()
    norms = torch.stack([g.norm(dim=-1) for g in torch.autograd.grad(loss, h[1:])]).flip(0)
    ratios = norms / norms[0]
    # Eight of the rows are followed, so medians agree within the spread of all rows.
    low, high = ratios.quantile(0.02, 1), ratios.quantile(0.98, 1)
    for lag, share in enumerate(found.rows[0].before.share_by_lag):
        assert low[lag] * (1 - 1e-4) <= share <= high[lag] * (1 + 1e-4)


def test_the_same_seed_gives_the_same_numbers(short):
    again = vanishing(updates=3)
    other = vanishing(updates=3, seed=1)

    def numbers(found):
        return [replace(row, train_s=0.0) for row in found.rows]

    assert numbers(again) == numbers(short[0]) != numbers(other)


def test_threads_are_left_as_they_were():
    class Stop(VanishingWatch):
        def begun(self, name):
            assert torch.get_num_threads() == 1
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            vanishing(updates=1, watch=Stop())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_layer_whose_error_never_enters_is_refused(short):
    with pytest.raises(ConfigError, match="never arrives"):
        study.measured(nn.LSTM(2, 3), lambda model: 0.0 * model(torch.randn(4, 2, 2))[0].sum())
