"""Do names never reach the generated code, and do numbers reach it to the bit?"""

import math
import os
import random
import re
import struct
import subprocess
import sys
import unicodedata
from itertools import islice

import pytest
import torch

import throughtime as tt
from engine.llvm.on_trial import layer_of, needs_engine
from throughtime.declare.slots import Sizes
from throughtime.engine import Job, llvm
from throughtime.errors import DeclarationError

pytestmark = needs_engine

SIZES = Sizes(input=3, hidden=5, projection=2)
PLAIN = ("h", "c", "i", "f", "u", "retain", "gap_s")
# What LLVM, C, Python or a format string would stumble over, among what a name may be.
WORDS = str.split(
    "define declare call ret br label phi select load store add fadd fmul double float i1 i32 i64 "
    "ptr void entry undef poison zeroinitializer splat align global constant private attributes "
    "target triple datalayout asm sideeffect module unreachable switch true null none inf nan "
    "loop1 v1 llvm entry_ int main printf system exec eval __import__ __builtins__ __class__ self "
    "_ __ ___ torch job h0 ago now tanh W b X hidden projection"
)
ALPHABET = (
    "abzAZ_09\u00e9\u00df\u03b1\u0416\u05d0\u0639\u4e2d\u3042\uac00"
    "\u2118\U0001d54f\u0301\ufe33\u00b7"
)
TEXTS = (
    "\"", "'", "\\", "\n", "\r\n", "\0", ";", "}", "{", "%", "%s", "%n%n%n", "{0}", "{x}", "$(id)",
    "`id`", "; ret void\n}\ndefine void @evil() {", "!0 = !{}", "@llvm.trap", "\u202e",
    "\u2028", "\ud7ff", "\U0001f600", "a" * 100_000,
    "-->", "<script>", "../../etc/passwd", "#define", "//", "/* */",
)  # fmt: skip


def text_of(job):
    """What the engine hands to LLVM for a job."""
    made = getattr(llvm, "text_of", None)
    if made is None:
        pytest.skip("throughtime.engine.llvm.text_of is still to come")
    return made(job)


def hostile_names(seed):
    """Identifiers that nobody should use, each different, without an end."""
    source, seen = random.Random(seed), set()
    while True:
        made = source.choice((
            source.choice(WORDS),
            source.choice(WORDS) + str(source.randint(0, 9)),
            "".join(source.choices(ALPHABET, k=source.randint(1, 12))),
            "".join(source.choices(ALPHABET, k=source.choice((300, 5000)))),
        ))
        # Python reads identifiers in this form, so that two spellings are one name.
        made = unicodedata.normalize("NFKC", made)
        reserved = made in {"x", "ih", "hh", "bias"} or made.startswith(("ih_", "hh_"))
        if made.isidentifier() and not reserved and made not in seen:
            seen.add(made)
            yield made


def declared(names, number, called="cell", source=""):
    """An LSTM-like cell with everything that has a name, and a number of its own."""
    h, c, i, f, u, retain, gap = names
    parts = {
        "params": (tt.Param(retain, 0.5),),
        "extras": (tt.Extra(gap, width=1),),
        "name": called,
        "source": source,
    }

    def step(**given):
        a, b, new = tt.affine(f"{i} {f} {u}", given["x"], given[h])
        past = given[retain] * given[c] * given[gap]
        held = tt.sigmoid(a) * past + tt.sigmoid(b) * tt.tanh(new + number)
        return tt.tanh(held), held

    return tt.cell((h, c), **parts)(step)


def without(text, number):
    """A text without a number, which LLVM's language writes as the digits of a double."""
    digits = struct.pack(">d", number).hex().upper()
    assert f"0x{digits}" in text
    return text.replace(f"0x{digits}", "NUMBER")


def check_names(count, seed):
    """Hold that so many names leave the text as it is.

    Every declaration has another number, or one text would serve for all of them.
    """
    source, number = hostile_names(seed), 1.5
    job = Job(declared(PLAIN, number), SIZES)
    plain = without(text_of(job), number)
    done = 0
    while done < count:
        number += 2.0**-18
        chosen = list(islice(source, len(PLAIN)))
        words = random.Random(done)
        cell = declared(chosen, number, words.choice(TEXTS), words.choice(TEXTS))
        got = without(text_of(Job(cell, SIZES)), number)
        assert got == plain, chosen
        done += len(chosen) + 2
    assert plain.isascii()


def test_names_leave_the_text_as_it_is():
    check_names(200, 0)


@pytest.mark.slow
def test_ten_thousand_names_leave_the_text_as_it_is():
    check_names(10_000, 1)


def test_a_text_is_the_same_in_every_process():
    """Python orders sets of names in another way in each; the order of sums must not follow."""
    text_of(Job(declared(PLAIN, 1.5), SIZES))
    code = (
        "import hashlib\n"
        "from engine.llvm.test_llvm_names import *\n"
        "text = text_of(Job(declared(PLAIN, 1.5), SIZES))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    sources = os.pathsep.join(path for path in sys.path if path)
    found = set()
    for seed in "123":
        variables = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": sources}
        command = [sys.executable, "-c", code]
        found.add(subprocess.run(command, env=variables, capture_output=True, check=True).stdout)
    assert len(found) == 1


def test_a_text_depends_on_equations():
    """That the comparison can fail."""
    first, second = (
        text_of(Job(declared(PLAIN, 1.5), SIZES, reverse=reverse)) for reverse in (False, True)
    )
    other = tt.cell("h c")(lambda x, h, c: (tt.affine("a", x, h) + 1.5, tt.sin(c)))
    assert first != text_of(Job(other, SIZES))
    assert re.search(r"define ", first)
    assert re.search(r"define ", second)


@pytest.mark.parametrize("called", TEXTS, ids=lambda text: repr(text[:12]))
def test_a_cell_with_any_name_runs(called):
    cell = declared(PLAIN, 0.5, called, called)
    extras = {"gap_s": torch.ones(4, 2, 1)}
    x, found = torch.randn(4, 2, 3), []
    for engine in (None, "reference"):
        torch.manual_seed(0)
        layer = layer_of(cell, 3, 5, dtype=torch.float32)
        layer.engine = engine or layer.engine
        found.append(layer(x, extras=extras)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_layers_with_hostile_names_compute_the_same():
    source, x, found = hostile_names(2), torch.randn(4, 2, 3), []
    for names in (PLAIN, *(list(islice(source, len(PLAIN))) for _ in range(6))):
        torch.manual_seed(0)
        layer = layer_of(declared(names, 0.25), 3, 5, dtype=torch.float32)
        output, _ = layer(x, extras={names[-1]: torch.full((4, 2, 1), 0.5)})
        gradients = torch.autograd.grad(output.sum(), list(layer.parameters()))
        found.append([output.detach(), *gradients])
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


@pytest.mark.parametrize("name", ['"', "a b", "a\nb", "%s", "", "1a", "a;b", "@evil", "a\0"])
def test_names_that_are_no_identifiers_are_refused(name):
    with pytest.raises(DeclarationError):
        tt.State(name)
    with pytest.raises(DeclarationError):
        tt.Param(name)


# --- numbers

NUMBERS = (
    0.1, -0.1, 1 / 3, math.pi, 1.0 + 2.0**-52, 16_777_217.0, 1e-30, 1e38, 0.0, -0.0,
    1.401298464324817e-45, 1e-40, 2.0**-126, 3.4028234663852886e38,
)  # fmt: skip
WIDE = (5e-324, 2.2250738585072014e-308, 1e300, 1.7976931348623157e308, -1e-310)
ENDLESS = (math.inf, -math.inf)


def constant_cell(number):
    """Emits a number as it is, by a choice that is always the same."""

    def step(x, h):
        a = tt.affine("a", x, h)
        return tt.where(tt.sigmoid(a) >= 0.0, number, a)

    return tt.cell("h")(step)


def bits(values):
    return values.view({4: torch.int32, 8: torch.int64}[values.element_size()])


@pytest.mark.parametrize(
    ("number", "dtype"),
    [*((n, torch.float32) for n in (*NUMBERS, *ENDLESS))]
    + [(n, torch.float64) for n in (*NUMBERS, *WIDE, *ENDLESS)],
)
def test_numbers_are_exact_to_the_bit(number, dtype):
    layer = layer_of(constant_cell(number), 1, 3, dtype=dtype)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()  # the number comes back as a state, and may be endless
        output, _ = layer(torch.ones(1, 2, 1, dtype=dtype))
    want = torch.full((1, 2, 3), number, dtype=dtype)
    assert torch.equal(bits(output), bits(want))


@pytest.mark.parametrize("number", NUMBERS[:8])
def test_numbers_stand_in_the_text_with_all_their_digits(number):
    rounded = struct.unpack(">f", struct.pack(">f", number))[0]
    digits = [struct.pack(">d", value).hex().upper() for value in (number, rounded)]
    text = text_of(Job(constant_cell(number), SIZES))
    assert any(f"0x{found}" in text for found in digits)  # of float64 or of float32
