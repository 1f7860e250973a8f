"""What is a stack made of? One run for each layer and direction: sizes, tensors' names, jobs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from throughtime import engine as engines
from throughtime.declare import Cell
from throughtime.declare.slots import Biases, Sizes
from throughtime.nn.init import Initialiser, fill
from throughtime.nn.layer_tensors import LayerTensors
from throughtime.nn.masks import Rows, masks_of, used
from throughtime.nn.parameters import Names, fill_param, is_bounded, names_of, register, stored_name
from throughtime.nn.states import LayerState

PRODUCT_DTYPES = (None, "bfloat16", "float16")


class Run(NamedTuple):
    """One layer in one direction.

    Attributes:
        layer: Its number, from 0.
        suffix: What its tensors' names end in, e.g. "_l0_reverse".
        sizes: What the cell's symbolic widths are here.
        names: Its tensors' names.
        masks: Which elements of a matrix are used, by the matrix's name; most cells have no masks.
        jobs: What an engine is asked, by (all states wanted?, dtype of products).
    """

    layer: int
    suffix: str
    sizes: Sizes
    names: Names
    masks: dict[str, tuple[Rows, ...]]
    jobs: dict[tuple[bool, str | None], engines.Job]


def layer_sizes(
    cell: Cell, input_size: int, widths: Sequence[int], proj_size: int, directions: int
) -> Iterator[Sizes]:
    """The sizes of each layer; the output of one is the input of the next."""
    features = input_size
    for hidden in widths:
        sizes = Sizes(features, hidden, proj_size or hidden)
        yield sizes
        features = directions * sum(sizes.of(n.width) for n in cell.out)


def make_runs(
    module: nn.Module,
    cell: Cell,
    layers: Sequence[Sizes],
    biases: Biases,
    like: Tensor,
    *,
    directions: int,
    learned: bool,
) -> list[Run]:
    """Give a module the tensors of all layers and directions, and say what runs over them."""
    found: list[Run] = []
    for layer, sizes in enumerate(layers):
        for reverse in (False, True)[:directions]:
            suffix = f"_l{layer}{'_reverse' if reverse else ''}"
            names = names_of(cell, biases, suffix, learned=learned)
            register(module, cell, sizes, biases, names, like)
            jobs = {
                (every, products): engines.Job(cell, sizes, biases, reverse, every, products)
                for every in (False, True)
                for products in PRODUCT_DTYPES
            }
            masks = masks_of(cell, jobs[False, None].slots, sizes, names)
            found.append(Run(layer, suffix, sizes, names, masks, jobs))
    prepare_all(found)
    return found


def prepare_all(runs: Sequence[Run]) -> None:
    """Plan every job now, so that torch.compile need not trace the planning."""
    for run in runs:
        for job in run.jobs.values():
            engines.prepare(job)


def tensors(module: nn.Module, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Some attributes of a module; looked up at each call, so that replaced ones count."""
    held = vars(module)["_parameters"]  # a plain parameter need not go through `__getattr__`
    return tuple(p if (p := held.get(n)) is not None else getattr(module, n) for n in names)


def weights_in_use(module: nn.Module, run: Run) -> tuple[Tensor, ...]:
    """The weights of one layer and direction as engines take them, idle elements zero."""
    return tuple(
        used(module, weight, run.masks[name]) if name in run.masks else weight
        for name, weight in zip(run.names.weights, tensors(module, run.names.weights), strict=True)
    )


def initialise(module: nn.Module, cell: Cell, run: Run, init: Sequence[Initialiser]) -> None:
    """Matrices and biases evenly in +-1/sqrt(H), as torch; the rest as declared; then by `init`.

    Idle elements of masked matrices are zero.
    """
    bound = run.sizes.hidden**-0.5
    for weight in tensors(module, run.names.weights):
        nn.init.uniform_(weight, -bound, bound)
    for name, param in zip(run.names.params, cell.params, strict=True):
        fill_param(getattr(module, stored_name(name, param)), param)
    moving = [s for s in cell.states if not s.clock]
    for name, state in zip(run.names.initial, moving, strict=False):
        nn.init.constant_(getattr(module, name), state.initial)
    fill(init, layer_tensors(module, cell, run))
    for name, parts in run.masks.items():
        with torch.no_grad():
            weight = getattr(module, name)
            weight.copy_(used(module, weight, parts))


def layer_tensors(module: nn.Module, cell: Cell, run: Run) -> LayerTensors:
    """What initialisers fill; params that are kept as raw tensors are not among it."""
    pairs = zip(run.names.params, cell.params, strict=True)
    plain = {param.name: getattr(module, name) for name, param in pairs if not is_bounded(param)}
    return LayerTensors(run.jobs[False, None], tensors(module, run.names.weights), plain)


def initial_states(module: nn.Module, cell: Cell, run: Run, rows: int, like: Tensor) -> LayerState:
    """The states before the first step when none are given: learned ones, or as declared.

    Shape:
        each [D, B, w]
    """
    learned = dict(zip(run.names.initial, tensors(module, run.names.initial), strict=True))
    found: list[Tensor] = []
    for state, width in zip(cell.states, run.jobs[False, None].state_sizes(), strict=True):
        value = learned.get(f"initial_{state.name}{run.suffix}")
        shape = (cell.depth, rows, width)
        found.append(like.new_full(shape, state.initial) if value is None else value.expand(shape))
    return tuple(found)
