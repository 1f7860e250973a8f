"""Is every formula of the documentation true? Its code runs, and every name in it exists."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import throughtime

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


# --- Wrong formulas are noticed -------------------------------------------------------------------

# What a page says, and something near it that is not true: one or more of each block's claims.
MUTANTS = [
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


@pytest.mark.parametrize(("said", "wrong"), MUTANTS, ids=range(len(MUTANTS)))
def test_a_wrong_formula_is_noticed(said, wrong, as_before):
    text = (DOCS / "notes.md").read_text()
    assert text.count(said) == 1, "the page says something else now; adapt the mutant"
    before, _, after = text.partition(said)
    # No further than the block itself, and none of the slow ones before that it does not need.
    changed = before + wrong + after.split("```", 1)[0] + "```\n"
    with pytest.raises(AssertionError):
        run(changed, "mutant")
