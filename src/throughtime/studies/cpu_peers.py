"""Who computes a row of the CPU bench, and do they all compute the same?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from throughtime.nn import Recurrent
from throughtime.studies.cpu_cells import Kind, Ops

__all__ = ["Contestant", "Mode", "Problem", "Size", "disagreement", "loop", "ours", "torch_nn"]

Mode = Literal["train", "infer"]
Size = tuple[int, int, int, int]
"""T, B, I, H."""

_AGREE = 1e-4  # of the largest element; float32 sums over 1,000 steps differ by up to 1e-5


@dataclass(frozen=True)
class Contestant:
    """Someone who computes a problem.

    Attributes:
        name: As rows call it.
        run: Computes it once; this is what is timed.
        results: Computes it once and gives back "y" and, in training, the gradients of "x" and
            of every weight, by name.
        ready: Called before each run, outside its time.
        is_slow: Whether fewer runs have to do.
    """

    name: str
    run: Callable[[], object]
    results: Callable[[], dict[str, Tensor]]
    ready: Callable[[], object] = lambda: None
    is_slow: bool = False


@dataclass(frozen=True)
class Problem:
    """What is computed: a layer of ours, whose weights all contestants share, and its data.

    Attributes:
        kind: The cell.
        mode: "train" is forward and backward with all gradients; "infer" forward, no graph kept.
        layer: Ours.
        x, dy: The input, and the gradient of the output, [T, B, I] and [T, B, H].
        lengths: Of rows, [B], where the kind is packed.
        hx: The first state, for our layer alone; its declared one if None.
    """

    kind: Kind
    mode: Mode
    layer: Recurrent
    x: Tensor
    dy: Tensor
    lengths: Tensor | None = None
    hx: Tensor | None = None

    @classmethod
    def make(cls, kind: Kind, size: Size, mode: Mode, engine: str) -> "Problem":
        """Draw it; a kind, a size and a mode give the same one every time."""
        T, B, I, H = size
        drawn = torch.Generator().manual_seed(T * 1_000_003 + B * 10_007 + H)
        layer = kind.layer(I, H, engine=engine)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(H**-0.5), H**-0.5, generator=drawn)
        x, dy = (torch.randn(T, B, width, generator=drawn) for width in (I, H))
        lengths = torch.randint((T + 1) // 2, T + 1, (B,), generator=drawn) if kind.packed else None
        return cls(kind, mode, layer, x, dy, lengths)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The values of the layer's parameters, named without the layer's number."""
        return {_short(n): p.detach() for n, p in self.layer.named_parameters()}

    @property
    def states(self) -> int:
        """How many vectors the cell carries."""
        return len(self.layer.cell.states)

    @property
    def real_steps(self) -> int:
        """Steps of all rows together, without padding."""
        T, B, _ = self.x.shape
        return T * B if self.lengths is None else int(self.lengths.sum())

    @property
    def is_real(self) -> Tensor | None:
        """Which steps lie within their row's length, [T, B, 1]; None without lengths."""
        if self.lengths is None:
            return None
        return (torch.arange(self.x.shape[0])[:, None] < self.lengths)[..., None]

    @property
    def flops(self) -> int:
        """Of the matrix products: 2 an element and step, and twice as many again backward."""
        elements = sum(w.numel() for w in self.weights.values() if w.dim() == 2)
        forward = 2 * elements * self.real_steps
        return 3 * forward if self.mode == "train" else forward


def _short(name: str) -> str:
    return name.removesuffix("_l0")


def ours(problem: Problem) -> Contestant:
    """Our layer."""
    named = dict(problem.layer.named_parameters())
    options = {} if problem.lengths is None else {"lengths": problem.lengths}
    return _in_torch("ours", problem, named, lambda x: problem.layer(x, problem.hx, **options)[0])


def torch_nn(problem: Problem) -> Contestant | None:
    """The layer of torch.nn, packing and padding included; None where it has none."""
    if problem.kind.theirs is None:
        return None
    layer = problem.kind.theirs(problem.x.shape[2], problem.dy.shape[2])
    _ = layer.load_state_dict(problem.layer.state_dict())
    steps, lengths = problem.x.shape[0], problem.lengths

    def packed(x: Tensor) -> Tensor:
        assert lengths is not None, "packed kinds have lengths"
        output, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(output, total_length=steps)[0]

    forward = (lambda x: layer(x)[0]) if lengths is None else packed
    return _in_torch("torch.nn", problem, dict(layer.named_parameters()), forward)


def loop(problem: Problem) -> Contestant:
    """A loop over time in plain PyTorch, as users write it."""
    weights = {name: w.clone().requires_grad_() for name, w in problem.weights.items()}
    forward = partial(_looped, problem, weights, problem.is_real)
    return replace(_in_torch("loop", problem, weights, forward), is_slow=True)


_OPS = Ops(nn.functional.linear, torch.sigmoid, torch.tanh, partial(torch.chunk, dim=-1))


def _looped(problem: Problem, w: Mapping[str, Tensor], real: Tensor | None, x: Tensor) -> Tensor:
    step = problem.kind.by_hand(_OPS, w)
    zeros = x.new_zeros(x.shape[1], problem.dy.shape[2])
    state: tuple[Any, ...] = (zeros,) * problem.states
    projected = nn.functional.linear(x, w["weight_ih"], w.get("bias_ih", w.get("bias")))
    outputs: list[Tensor] = []
    for t, x_t in enumerate(projected.unbind()):
        new = step(x_t, state)
        if real is not None:
            new = tuple(torch.where(real[t], a, b) for a, b in zip(new, state, strict=True))
        state = new
        outputs.append(state[0])
    output = torch.stack(outputs)
    return output if real is None else torch.where(real, output, 0.0)


def _in_torch(
    name: str, problem: Problem, named: Mapping[str, Tensor], forward: Callable[[Tensor], Tensor]
) -> Contestant:
    x = problem.x.clone().requires_grad_()
    leaves = {"x": x, **{_short(n): tensor for n, tensor in named.items()}}

    def forget() -> None:
        for leaf in leaves.values():
            leaf.grad = None

    def train() -> Tensor:
        y = forward(x)
        torch.autograd.backward(y, problem.dy)
        return y

    def infer() -> Tensor:
        with torch.no_grad():
            return forward(x)

    run = train if problem.mode == "train" else infer

    def results() -> dict[str, Tensor]:
        forget()
        y = run().detach()
        return {"y": y, **{n: leaf.grad for n, leaf in leaves.items() if leaf.grad is not None}}

    return Contestant(name, run, results, forget)


def disagreement(right: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str | None:
    """Say where two contestants compute different things; None where they do not.

    They agree where every tensor of one is in the other, and differs by no more than 1e-4 of its
    largest element.
    """
    if set(right) != set(theirs):
        return f"one of them alone has {', '.join(sorted(set(right) ^ set(theirs)))}"
    for name, value in right.items():
        if theirs[name].shape != value.shape:
            return f"{name} has another shape"
        largest = float(value.abs().max())
        error = float((theirs[name] - value).abs().max()) / (largest or 1.0)
        if not error <= _AGREE:
            return f"{name} differs by {error:.1e} of its largest element"
    return None
