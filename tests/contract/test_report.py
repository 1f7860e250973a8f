"""What does `check_cell` tell, and what does it leave alone?"""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS, OWN_CELLS
from throughtime.errors import ConfigError, DtypeError
from throughtime.testing import check_cell


def lines_of(name: str, **options: int) -> list[str]:
    return [" ".join(line.split()) for line in str(check_cell(CELLS[name], **options)).splitlines()]


def test_states_params_and_extras_are_shown():
    lines = lines_of("bounded")
    assert "params retain: width hidden, init Uniform(low=0.2, high=0.8) in (0.0, 1.0)" in lines
    assert "fixed: width hidden, init Uniform(low=0.9, high=1.1), fixed" in lines
    lines = lines_of("zoneout_lstm")
    shown = "keep: width hidden, per step, Bernoulli(p=0.3, scale=1.0), outside training 0.3"
    assert f"extras {shown}" in lines
    lines = lines_of("clockwork")
    assert "k: width hidden, starts at 0, read up to lag 1, a clock" in lines


def test_matrices_are_shown_with_kind_and_lag():
    assert (
        "matrices a: input on x; recurrent lag 1 on h; recurrent lag 3 on ago(h, 3); bias"
        in lines_of("delayed")
    )
    lines = lines_of("lstm_projection")
    assert any(line.startswith("hr: inner on (sigmoid(o) * tanh(") for line in lines)
    assert "phases i f g o | hr" in lines
    assert "y: output on h; output on x; bias" in " ".join(lines_of("emitting"))


def test_parameters_are_shown_with_the_shapes_of_a_layer():
    report = check_cell(CELLS["delayed_lstm"], input_size=2, hidden_size=4)
    layer = tt.Recurrent(CELLS["delayed_lstm"], 2, 4)
    for name, parameter in layer.named_parameters():
        assert f"{name} {list(parameter.shape)}" in str(report)


def test_the_engine_is_shown_with_its_reason():
    assert "engine vendor: torch's own fused op (oneDNN or cuDNN)" in lines_of("lstm")  # few steps
    lines = lines_of("mgu")
    assert "engine llvm: a fused kernel, built in memory from the cell's equations" in lines
    assert "not vendor: the equations of mgu are not those of torch's RNN, LSTM or GRU" in lines


def test_every_line_is_shown_with_its_worst_error():
    report, shown = check_cell(OWN_CELLS["blind"]), lines_of("blind")
    for line in report.lines:
        seen = f"{line.error:.1e} of 1e-12" if line.error or line.bound else "no difference"
        wanted = f"ok {seen} {line.check} ({line.engine}): {line.what}"
        assert any(found.endswith(wanted) for found in shown)


def test_the_callers_generator_is_left_alone():
    before = torch.get_rng_state()
    check_cell(OWN_CELLS["zoneout_lstm"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides_the_numbers():
    errors = [[n.error for n in check_cell(CELLS["mgu"], seed=s).lines] for s in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


def test_what_is_no_cell_is_refused():
    with pytest.raises(DtypeError, match="cell is a LSTM; expected a Cell"):
        check_cell(torch.nn.LSTM(2, 3))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("lstm", {"input_size": 0}),
        ("lstm", {"hidden_size": -1}),
        ("lstm", {"proj_size": 2}),
        ("lstm_projection", {"proj_size": 5}),
        ("lstm_projection", {"hidden_size": 1}),
    ],
)
def test_sizes_that_no_layer_can_have_are_refused(name, sizes):
    with pytest.raises(ConfigError, match=next(iter(sizes)) if name == "lstm" else "proj_size"):
        check_cell(CELLS[name], **sizes)


def test_a_cell_that_is_not_finite_is_named():
    @tt.cell("h")
    def rooted(x, h):
        return tt.sqrt(tt.affine("a", x, h))

    with pytest.raises(
        AssertionError, match=r"rooted breaks 1 of 1 lines:\s+BROKEN inf of 0e\+00 +finite"
    ):
        check_cell(rooted)


def test_a_cell_whose_gradient_alone_is_not_finite_is_named():
    @tt.cell("h")
    def chosen(x, h):
        a = tt.affine("a", x, h)
        return tt.where(a > 0.0, tt.sqrt(a), 0.1 * a)  # 0 * NaN where a < 0, as in torch

    with pytest.raises(AssertionError, match=r"finite.*in gradient of x"):
        check_cell(chosen)
