"""Which directions survive? Lyapunov exponents and long products, by QR, logarithms apart.

The transposed Jacobians are multiplied in the order in which the error meets them, J_T first:

    Q_{i+1} R_{i+1} = J_t^T Q_i,  t = T, T-1, ..., 1;  lambda_j = mean of ln R_jj

Products of p steps are Q times R_p ... R_1, of which the triangle is kept near norm one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.flow.cell_steps import CellSteps
from throughtime.flow.linear import LinearSteps
from throughtime.flow.passage import Passage

__all__ = ["Spectrum", "companion", "lyapunov", "spectrum_of"]

STRONG_SHARE = 0.01  # a direction counts if it comes back with this share of the strongest
_SURE_OF = 1e-10  # singular values below this share of the largest are rounding
Pull = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Spectrum:
    """What comes of long products.

    Attributes:
        exponents: Nats a step, largest first, for each row; -inf for directions that are lost.
        lags: Lengths of products, in steps.
        log_condition: Of the products of so many steps, natural logarithm; median over products.
        directions: Singular values above 1 % of the largest; median over products.

    Shape:
        exponents: [B, N]
    """

    exponents: Tensor
    lags: list[int]
    log_condition: list[float]
    directions: list[int]

    def mean(self) -> list[float]:
        """The mean of each exponent over the rows that have a step; NaN if none has."""
        return _of_rows(self.exponents, lambda e: e.mean(0))

    def spread(self) -> list[float]:
        """The standard deviation over them; 0 where an exponent is -inf."""
        return _of_rows(self.exponents, lambda e: e.std(0, correction=0).nan_to_num(0.0))


def _of_rows(exponents: Tensor, of: Callable[[Tensor], Tensor]) -> list[float]:
    known = exponents[~exponents.isnan().any(-1)]
    return of(known).tolist() if len(known) else [math.nan] * exponents.shape[-1]


def lyapunov(
    pull: Pull,
    units: int,
    steps: int,
    *,
    rows: int = 1,
    count: int | None = None,
    counted: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Spectrum:
    """Lyapunov exponents and long products of any chain of Jacobians.

        lambda_j = (1/T) sum_t ln R_t,jj

    Args:
        pull: `pull(t, q)` is q J_t for each of the N vectors of each row.
        units: Of the state.
        steps: T; the Jacobians are those of steps T - 1 down to 0.
        rows: B chains side by side.
        count: N, how many exponents: the leading ones; None for all.
        counted: Whether a row's step counts; a step that does not ends a product.
        dtype: Of the vectors.
        seed: Draws the directions with which a chain begins.

    Returns:
        The spectrum.

    Shape:
        q: [N, B, W]; counted: [T, B]

    Source:
        Benettin et al. 1980; Engelken, Wolf & Abbott 2020, arXiv:2006.02427. Differs: in the
        order of back-propagation, which has the same exponents.
    """
    number = units if count is None else min(count, units)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(rows, units, number, generator=generator, dtype=torch.float64)
    chain = _Chain(torch.linalg.qr(start).Q.to(dtype))
    every = torch.ones(steps, rows, dtype=torch.bool) if counted is None else counted.cpu()
    for t in range(steps - 1, -1, -1):
        chain.follow(pull(t, chain.q.permute(2, 0, 1)).permute(1, 2, 0), every[t])
    return chain.spectrum()


class _Chain:
    """The directions of all rows, and what happened to them so far."""

    def __init__(self, q: Tensor) -> None:
        rows, _, number = q.shape
        self.q = q
        self.total = torch.zeros(rows, number, dtype=torch.float64)
        self.steps = torch.zeros(rows, dtype=torch.long)
        self.length = torch.zeros(rows, dtype=torch.long)  # of the product that is under way
        self.product = torch.eye(number, dtype=torch.float64).repeat(rows, 1, 1)
        self.since = torch.zeros_like(self.total)  # ln R_jj summed since it began
        self.found: dict[int, list[tuple[float, int]]] = {}

    def follow(self, pulled: Tensor, counts: Tensor) -> None:
        """Take one more Jacobian."""
        if not counts.any():
            self._cut(~counts)
            return
        q, r = torch.linalg.qr(pulled)
        self.q = torch.where(counts.view(-1, 1, 1).to(q.device), q, self.q)
        r = r.double().cpu()
        logs = r.diagonal(dim1=-2, dim2=-1).abs().log()
        self.total += torch.where(counts.unsqueeze(-1), logs, 0.0)
        self.since += torch.where(counts.unsqueeze(-1), logs, 0.0)
        self.steps += counts
        self.length += counts
        product = r @ self.product
        product = product / product.abs().amax((-2, -1), keepdim=True).clamp(min=1e-300)
        self.product = torch.where(counts.view(-1, 1, 1), product, self.product)
        self._cut(~counts)
        self._look()

    def _cut(self, rows: Tensor) -> None:
        """Begin new products."""
        self.length[rows] = 0
        self.since[rows] = 0.0
        self.product[rows] = torch.eye(self.product.shape[-1], dtype=torch.float64)

    def _look(self) -> None:
        """Note the singular values of products whose length is a power of two."""
        for row, length in enumerate(self.length.tolist()):
            if length and length & (length - 1) == 0:
                self.found.setdefault(length, []).append(self._look_at(row))

    def _look_at(self, row: int) -> tuple[float, int]:
        """The logarithm of the condition, and how many directions come back."""
        product, logs = self.product[row], self.since[row]
        if not product.isfinite().all() or not product.any():
            return math.inf, 0
        values = torch.linalg.svdvals(product)
        strong = int((values > STRONG_SHARE * values[0]).sum())
        if values[-1] > _SURE_OF * values[0]:
            return math.log(values[0] / values[-1]), strong
        return (logs.max() - logs.min()).item(), strong  # what R_jj tell, beyond rounding

    def spectrum(self) -> Spectrum:
        """All of it."""
        exponents = self.total / torch.where(self.steps > 0, self.steps, torch.nan).unsqueeze(-1)
        lags = sorted(self.found)
        condition, directions = [], []
        for lag in lags:
            conditions, counts = zip(*self.found[lag], strict=True)
            condition.append(sorted(conditions)[(len(conditions) - 1) // 2])
            directions.append(sorted(counts)[(len(counts) - 1) // 2])
        ordered = exponents.sort(-1, descending=True).values
        return Spectrum(ordered, lags, condition, directions)


def companion(steps: LinearSteps, like: Tensor) -> tuple[Pull, int]:
    """The steps as maps of one vector: with delays, of the past values that are read as well.

    Args:
        steps: The linearised steps.
        like: A tensor of their dtype and device.

    Returns:
        What pulls vectors back through a step, and their units. The values of a state, newest
        first, stand side by side, one state after the other.
    """
    widths = steps.widths
    zeros = [like.new_zeros(1, steps.rows, w) for w in widths]
    read = steps.pulled(steps.count - 1, zeros).past if steps.count else {}
    depths = [max([lag for s, lag in read if s == i], default=1) for i in range(len(widths))]
    sizes = [w for w, depth in zip(widths, depths, strict=True) for _ in range(depth)]
    first = [sum(depths[:i]) for i in range(len(widths))]

    def pull(t: int, q: Tensor) -> Tensor:
        parts = q.split(sizes, -1)
        past = steps.pulled(t, [parts[i] for i in first]).past
        found: list[Tensor] = []
        for state, (begin, depth) in enumerate(zip(first, depths, strict=True)):
            for lag in range(1, depth + 1):
                value = past.get((state, lag), torch.zeros_like(parts[begin]))
                found.append(value + parts[begin + lag] if lag < depth else value)
        return torch.cat(found, -1)

    return pull, sum(sizes)


def spectrum_of(passage: Passage, count: int | None, rows: int, seed: int) -> Spectrum:
    """The spectrum of a passage's longest rows, over their real steps.

    A step whose past a row does not have whole, behind a reset, is not counted.

    Args:
        passage: The layer.
        count: How many exponents; None for all.
        rows: How many rows.
        seed: See `lyapunov`.
    """
    lengths = passage.real.sum(0).cpu()
    chosen = lengths.argsort(descending=True, stable=True)[:rows].sort().values.tolist()
    steps, like = passage.steps, passage.seeds[0]
    counted = (passage.real & passage.reached.all(0))[:, chosen]
    if not isinstance(steps, CellSteps):
        pull, units = companion(steps, like)
        pull = _of_some_rows(pull, chosen, steps.rows)
    else:
        pull, units = companion(steps.of_rows(chosen), like)
    return lyapunov(
        pull,
        units,
        steps.count,
        rows=len(chosen),
        count=count,
        counted=counted,
        dtype=like.dtype,
        seed=seed,
    )


def _of_some_rows(pull: Pull, chosen: Sequence[int], rows: int) -> Pull:
    """The same for some rows; the others get zeros."""

    def narrowed(t: int, q: Tensor) -> Tensor:
        whole = q.new_zeros(q.shape[0], rows, q.shape[-1])
        whole[:, chosen] = q
        return pull(t, whole)[:, chosen]

    return narrowed
