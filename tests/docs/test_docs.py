"""Is every formula of the documentation true? Its code runs, and every name in it exists."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import throughtime
from throughtime.flow.thresholds import limit
from throughtime.records.diagnosis import CODES

DOCS = Path(__file__).parent.parent.parent / "docs"
FILES = sorted(DOCS.glob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(text):
    """Each block of Python with the number of its first line, so that a failure names the line."""
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, found.start(1)), found[1]


@pytest.fixture
def as_before():
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


def run(text, name):
    """Run all blocks in one namespace."""
    namespace = {"__name__": name}
    for line, block in blocks(text):
        exec(compile("\n" * line + block, name, "exec"), namespace)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_code_of_a_page_runs_in_order(path, as_before):
    run(path.read_text(), str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_block_checks_something(path):
    for line, block in blocks(path.read_text()):
        assert re.search(r"^\s*assert ", block, re.MULTILINE), f"{path.name}, line {line}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_pages_name_nothing_that_is_not_there(path):
    for chain in re.findall(r"\btt((?:\.[A-Za-z_]\w*)+)", path.read_text()):
        found = throughtime
        for name in chain[1:].split("."):
            assert hasattr(found, name), f"{path.name} names tt{chain}"
            found = getattr(found, name)
    for module in re.findall(r"`(throughtime(?:\.\w+)+)`", path.read_text()):
        assert importlib.util.find_spec(module), f"{path.name} names {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    assert len(FILES) >= 3
    for path in FILES:
        assert path.name == "README.md" or f"]({path.name})" in index


def test_the_picture_is_what_its_program_draws(tmp_path):
    spec = importlib.util.spec_from_file_location("draw", DOCS / "pictures" / "draw.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    drawn = program.draw(tmp_path)
    assert drawn.read_bytes() == (DOCS / "pictures" / drawn.name).read_bytes()


def test_the_table_of_findings_has_the_thresholds_of_the_code():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\|.*\|.*\|$", (DOCS / "instrument.md").read_text(), re.MULTILINE
    )
    assert tuple(rows) == CODES
    for code, cell in re.findall(
        r"^\| `(\w+)` \|[^|]*\| (?:above|below|at most|at least) ([\d.]+) \|",
        (DOCS / "instrument.md").read_text(),
        re.MULTILINE,
    ):
        assert float(cell) == pytest.approx(limit(code), abs=5e-4), code
        rows.remove(code)
    assert rows == ["healthy"]


# --- Wrong formulas are noticed -------------------------------------------------------------------

# What a page says, and something near it that is not true: one or more of each block's claims.
MUTANTS = [
    ("answer = math.exp(-1 / 100)", "answer = 1 - 1 / 50"),
    ("math.floor(math.log(0.01) / math.log(0.9))\nassert answer", "44\nassert answer"),
    ("answer = [1, 3, 5]", "answer = [1, 3]"),
    ("answer = math.log(99)", "answer = math.log(100)"),
    ("answer = 7 ", "answer = 6 "),
    ("torch.tensor([0.6, 0.8]), torch", "torch.tensor([1.0, 1.0]), torch"),
    ("] = -100.0", "] = 0.0"),
    ("error_at(T - lag).norm()", "error_at(T - 1 - lag).norm()"),
    ("immediate(T - lag).norm()", "immediate(max(T - 1 - lag, 1)).norm()"),
    ("record.bound_factor - beta_W", "record.bound_factor - torch.linalg.eigvals(W).abs().max()"),
    ("cell(x[1], cell(x[0], h0[0]))", "cell(x[0], cell(x[1], h0[0]))"),
    ("book(x, a0.tanh())", "book(x, a0)"),
    ("assert close(by_o, p - ", "assert close(by_o, p + "),
    ("assert close(parts[0], torch.zeros(H, H))", "assert close(parts[1], torch.zeros(H, H))"),
    ("range(T, k, -1)", "range(T, k - 1, -1)"),
    ("W @ torch.diag(slope))", "torch.diag(slope) @ W)"),
    ("W[m, n] * slope[n])", "W[m, n] * slope[m])"),
    ("assert close(end @ P_notes, P_book @ begin)", "assert close(P_notes @ end, begin @ P_book)"),
    ("matrix_norm(nilpotent, 2) == 10.0", "matrix_norm(nilpotent, 2) == 0.0"),
    ("torch.tensor(0.25))", "torch.tensor(0.5))"),
    ("measured <= 0.9 ** lags + 1e-12", "measured <= 0.3 ** lags + 1e-12"),
    ("norms_by_lag(1.7 * Q, 3.0 * torch", "norms_by_lag(1.7 * Q, 0.0 * torch"),
    ("lambdas ** 50 * coordinates", "lambdas ** 49 * coordinates"),
    ("with_skip[40] > 0.4 ** 10", "straight[40] > 0.4 ** 10"),
    ("0.4 * paths[lag - 4]", "0.4 * paths[lag - 3]"),
    ("time_constant(1 - a), 1) for a in (0.2, 0.02)", "time_constant(a), 1) for a in (0.2, 0.02)"),
    ("J = 0.9 * torch.eye(H) + 0.1 *", "J = 0.1 * torch.eye(H) + 0.9 *"),
    ("== [1, 2, 4, 7]", "== [1, 2, 4]"),
    ("c_new = f.sigmoid() * c + i.sigmoid()", "c_new = i.sigmoid() * c + f.sigmoid()"),
    ("jacobian(cell_path, c), torch.diag(f.", "jacobian(cell_path, c), torch.diag(i."),
    ("jacobian(two_steps, c)", "jacobian(cell_path, c)"),
    ("value[H : 2 * H] *= -1", "value[H : 2 * H] *= 1"),
    ("close(after, before / before.norm(), 1e-6)", "close(after, before.clamp(-1, 1), 1e-6)"),
    ("close(by_value, before.clamp(-1, 1))", "close(by_value, before / before.norm())"),
    ("walk(clip=1.0)[2] < 0.002", "walk(clip=math.inf)[2] < 0.002"),
    ('word == "John"] == [16]', 'word == "Jane"] == [16]'),
    ("math.log(7)", "math.log(8)"),
    ("back.square().sum() / g.square().sum() - 1", "back.norm() / g.norm() - 1"),
    ('gates="own"', 'gates="all"'),
    ("theta + mu * v)    #", "theta)    #"),
    ("y.detach().abs().sum(-1).mean()", "y.detach().square().sum(-1).mean()"),
]  # fmt: skip


# What a page says of the instrument, and what would be said if it measured something else.
MISREAD = [
    ("(by_step[:-1] == 0).all()", "(by_step[:-1] > 0).all()"),
    ("math.log(0.01) / math.log(0.9)) == 43", "math.log(0.1) / math.log(0.9)) == 43"),
    ("abs(ratio - 0.9) < 1e-9", "abs(ratio - 0.1) < 1e-9"),
    ("matrix_norm(plain.weight_hh_l0.detach(), 2)", "matrix_norm(plain.weight_hh_l0.detach())"),
    ("0.4 < off[1] / off[0] < 0.6", "0.9 < off[1] / off[0] < 1.1"),
    ("exponents_after(150).sum() - log_det", "exponents_after(150).mean() - log_det"),
    ("t - -1 / math.log(0.9)", "t - 1 / 0.9"),
    ('path_share["c"] - 1.0', 'path_share["h"] - 1.0'),
    ("[1, 2, 4, 8, 16, 32, 60]", "[1, 2, 4, 8, 16, 32, 64]"),
    ("weight_hh_l0.mul_(0.3)", "weight_hh_l0.mul_(30.0)"),
    ("gradient_norms=[5.0] * 50", "gradient_norms=[0.5] * 50"),
    ("x[0, :, 0])", "x[-1, :, 0])"),  # nothing need be remembered
    ("reading.horizon_steps - whole.horizon_steps", "reading.horizon_steps - whole.steps"),
]

# What the page of the fused engine says of it, and what would be true of another one.
UNTRUE = [
    ('said.startswith("llvm', 'said.startswith("reference'),
    ('layer.explain(x).startswith("reference")', 'layer.explain(x).startswith("llvm")'),
    ("float32 or float64, and this is float16", "float16 or float32, and this is float16"),
    ("(outputs[0] == tiny)", "(outputs[0] == 2 * tiny)"),
    ('(("past", 0, 1),)', '(("past", 0, 2),)'),
    ("== [0, 1]", "== [1, 0]"),
    ('program(3, 5).kernel("infer")', 'program(3, 5).kernel("save")'),
]
PAGES = {"notes.md": MUTANTS, "instrument.md": MISREAD, "engine.md": UNTRUE}
CHANGES = [(page, *pair) for page, pairs in PAGES.items() for pair in pairs]


@pytest.mark.parametrize(
    ("page", "said", "wrong"), CHANGES, ids=[f"{page} {n}" for n, (page, *_) in enumerate(CHANGES)]
)
def test_a_wrong_formula_is_noticed(page, said, wrong, as_before):
    text = (DOCS / page).read_text()
    assert text.count(said) == 1, "the page says something else now; adapt the mutant"
    before, _, after = text.partition(said)
    # No further than the block itself.
    changed = before + wrong + after.split("```", 1)[0] + "```\n"
    with pytest.raises(AssertionError):
        run(changed, "mutant")
