"""How are layers of any cell made and called? In the manners of `torch.nn`."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime import engine as engines
from throughtime.declare import Cell
from throughtime.declare.slots import Biases
from throughtime.engine.dispatch import check_name
from throughtime.errors import ConfigError, ShapeError
from throughtime.nn.arguments import (
    autocast_products,
    check_input,
    check_layers,
    check_options,
    check_same_kind,
)
from throughtime.nn.arrangement import Arrangement
from throughtime.nn.connections import Connections, check_connections
from throughtime.nn.extras import check_names
from throughtime.nn.init import as_init
from throughtime.nn.lengths import as_lengths, as_reset, pack_like, unpack
from throughtime.nn.options import check_amount
from throughtime.nn.penalties import Penalties
from throughtime.nn.plain import plain
from throughtime.nn.runs import initial_states, layer_sizes, make_runs, tensors, weights_in_use
from throughtime.nn.stack import Batch, Stack
from throughtime.nn.states import LayerState, StateLayout, each


class Recurrent(Stack):
    """Layers of any declared cell, in the manners of `torch.nn.LSTM`.

    Args:
        cell: The recurrence.
        input_size: I, features of the input.
        hidden_size: H, units of a layer; or a sequence, one for each layer.
        num_layers: L, layers; the output of one is the input of the next.
        bias: Whether pre-activations have their biases.
        batch_first: Input and output are [B, T, ...] instead of [T, B, ...]; states are not.
        dropout: Probability to zero an output between layers, in training.
        bidirectional: Run every layer in both directions and concatenate the outputs.
        proj_size: P, the width of states declared with width "projection".
        device: Where parameters are made.
        dtype: Of the parameters.
        learn_initial_state: Make the state before the first step (and after a reset) a parameter.
        engine: "auto" takes the fastest engine that can do the job; a named one is used or
            refused. `explain()` says which.
        init: What the layer starts from, on top of torch's: an initialiser of `nn.init`, several
            in order, or their text such as "orthogonal,forget:1".
        weight_drop: Probability to zero an element of a recurrent matrix, in training; one draw a
            call, the same at every step (see `nn.weight_drop`).
        activation_l1: Weight of an L1 penalty on the outputs of every layer, in training (see
            `nn.activation_l1`); nothing in the training loop need know of it.
        omega: Weight of Pascanu's Omega, likewise (see `nn.omega`).
        connections: "plain"; "residual" adds a layer's input to its output where both are of one
            width, "highway" mixes them by a gate (see `nn.connections`).
        recompute: Keep nothing but inputs and states for the backward pass, which then runs the
            forward pass again: about a third more time for a fraction of the memory.

    Shape:
        x: [T, B, I]; output: [T, B, O], O = directions * output features of the cell;
        states in hx: each [L * directions, B, w], layer-major, then direction; with a leading
        axis of D where the cell has delays up to D > 1. Without a batch: x [T, I], no B anywhere.

    Source:
        Conventions of torch.nn.LSTM. Differs: one bias a gate, one tensor a matrix slot (see
        `declare.slots`), and what is keyword-only.

    Example:
        >>> import torch, throughtime as tt
        >>> layer = tt.Recurrent(tt.cells.CATALOGUE["mgu"], 4, 8, num_layers=2)
        >>> output, h = layer(torch.randn(5, 3, 4), lengths=[5, 0, 2])
        >>> output.shape, h.shape
        (torch.Size([5, 3, 8]), torch.Size([2, 3, 8]))
    """

    biases: ClassVar[Biases] = "one"

    def __init__(  # noqa: PLR0913 (torch's arguments, in torch's order)
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        learn_initial_state: bool = False,
        engine: str = "auto",
        init: Any = None,
        weight_drop: float = 0.0,
        activation_l1: float = 0.0,
        omega: float = 0.0,
        connections: Connections = "plain",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        widths = check_layers(cell, input_size, hidden_size, num_layers, proj_size)
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        own = {"learn_initial_state": learn_initial_state, "recompute": recompute}
        check_options(flags | own, dropout, dtype)
        self.cell, self.engine, self.init = cell, check_name(engine), as_init(init)
        self.input_size, self.num_layers, self.proj_size = (input_size, num_layers, proj_size)
        self.hidden_size = widths[0] if len(set(widths)) == 1 else tuple(widths)
        self.bias, self.batch_first, self.bidirectional = (bias, batch_first, bidirectional)
        self.dropout, self.learn_initial_state = float(dropout), learn_initial_state
        self.weight_drop = check_amount("weight_drop", weight_drop, 1.0, recurrent=cell)
        self.activation_l1 = check_amount("activation_l1", activation_l1)
        self.omega = check_amount("omega", omega, recurrent=cell)
        self.connections, self.recompute = check_connections(connections), recompute
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} has no effect with num_layers=1: it stands between layers.",
                stacklevel=2,
            )
        like = torch.empty(0, device=device, dtype=dtype)
        self._runs = make_runs(
            self,
            cell,
            list(layer_sizes(cell, input_size, widths, proj_size, self.directions)),
            self.biases if bias else "none",
            like,
            directions=self.directions,
            learned=learn_initial_state,
        )
        state_widths = [run.jobs[False, None].state_sizes() for run in self._runs]
        self._layout = StateLayout(cell, state_widths[:: self.directions], self.directions)
        self._connect(like)
        self._penalties = Penalties()
        self.reset_parameters()

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Any = None,
        reset: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
        return_all_states: bool = False,
        validate: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers over a batch of sequences.

        Args:
            input: x; a `PackedSequence` gives one back.
            hx: The state before the first step; the declared (or learned) initial one if None.
            lengths: Real steps of each row, in any order, 0 allowed. Outputs past them are zero;
                the last state is that at the last real step, where the reverse direction starts.
            reset: Before which steps a row starts anew, in the layout of x.
            extras: Values of the cell's extra inputs, by name; drawn or constant where absent.
            return_all_states: Also return the states of every step.
            validate: Check the values of lengths even where that waits for a device.

        Returns:
            The output and the last state; with return_all_states also a list with a tuple of
            states for each layer and direction.

        Raises:
            ShapeError, DtypeError, DeviceError, ConfigError: an argument does not fit.
            EngineError: the engine named cannot do this.

        Shape:
            lengths: [B]; reset: [T, B]; each extra: [T, B, w]; each state of every step:
            [T, B, w]. With batch_first B comes before T in x, output, reset, extras and states.
        """
        if lengths is None and reset is None and extras is None and not return_all_states:
            found = plain(self, input, hx)
            if found is not None:
                return found
        x = input
        if isinstance(x, PackedSequence):
            return self._packed(x, hx, lengths, reset, extras, return_all_states)
        weight = tensors(self, self._runs[0].names.weights[:1])[0]
        arranged, steps = self._arrangement(x, lengths, weight)
        batch = Batch(
            x=steps,
            lengths=as_lengths(lengths, steps, validate=validate),
            reset=as_reset(arranged.inward(reset), steps),
            extras=check_names(self.cell, arranged.extras(extras)),
            all_states=return_all_states,
            products=autocast_products(steps, weight),
        )
        output, last, every = self._stack(batch, self._start(hx, batch, weight, arranged))
        results = (arranged.outward(output), each(self._layout.join(last), arranged.state_outward))
        if not return_all_states:
            return results
        return (*results, [tuple(arranged.outward(s) for s in states) for states in every])

    def _arrangement(self, x: Any, lengths: Any, weight: Tensor) -> tuple[Arrangement, Tensor]:
        """Check the input, tell how it lies, and bring it to [T, B, I]."""
        order = "[B, T, I]" if self.batch_first else "[T, B, I]"
        check_input(self._name(), x, {2: "[T, I]", 3: order}, self.input_size)
        if lengths is not None and x.dim() == 2:
            raise ShapeError(
                f"{self._name()}: lengths came with an input without a batch, {list(x.shape)}; "
                f"expected an input {order}."
            )
        autocast = autocast_products(x, weight) is not None
        check_same_kind(self._name(), x, weight, autocast=autocast)
        if x.dim() == 2:
            arranged = Arrangement("no batch")
        else:
            arranged = Arrangement("batch first" if self.batch_first else "time first")
        return arranged, arranged.inward(x)

    def _packed(
        self,
        packed: PackedSequence,
        hx: Any,
        lengths: Any,
        reset: Any,
        extras: Mapping[str, Tensor] | None,
        return_all_states: bool,
    ) -> tuple[Any, ...]:
        """Run over a packed batch, whose lengths it brings along."""
        if lengths is not None:
            raise ConfigError(
                "lengths came with a PackedSequence, which has its own; leave it out."
            )
        x, lengths = unpack(packed)
        arranged = Arrangement("batch first" if self.batch_first else "time first")
        output, *rest = self.forward(
            arranged.outward(x),
            hx,
            lengths=lengths,
            reset=reset,
            extras=extras,
            return_all_states=return_all_states,
        )
        return (pack_like(arranged.inward(output), lengths, packed), *rest)

    def _start(
        self, hx: Any, batch: Batch, weight: Tensor, arranged: Arrangement
    ) -> list[LayerState]:
        """The states before the first step, for each layer and direction."""
        rows = batch.x.shape[1]
        if hx is None:
            return [initial_states(self, self.cell, run, rows, weight) for run in self._runs]
        hx = each(hx, arranged.state_inward)
        if batch.products:
            hx = each(hx, lambda state: state.to(weight.dtype))
        return self._layout.split(hx, rows, weight, batched=arranged.kind != "no batch")

    def explain(
        self,
        x: Tensor | None = None,
        *,
        lengths: Any = None,
        reset: Tensor | None = None,
        return_all_states: bool = False,
    ) -> str:
        """Say which engine runs this layer, and why not a faster one.

        Args:
            x: An input such a call would get; without it only the cell is judged.
            lengths: As in a call.
            reset: As in a call.
            return_all_states: As in a call.

        Returns:
            Lines of text.
        """
        run = self._runs[0]
        weight = getattr(self, run.names.weights[0])
        products = None if x is None else autocast_products(x, weight)
        job = self._job(run, return_all_states, products)
        if x is None:
            return engines.explain(job, None, self.engine)
        arranged, steps = self._arrangement(x, lengths, weight)
        inputs = engines.Inputs(
            x=steps,
            states=initial_states(self, self.cell, run, steps.shape[1], weight),
            initial=tensors(self, run.names.initial),
            weights=weights_in_use(self, run),
            params=tensors(self, run.names.params),
            extras=(),
            lengths=as_lengths(lengths, steps, validate=False),
            reset=as_reset(arranged.inward(reset), steps),
        )
        return engines.explain(job, inputs, self.engine)

    def flatten_parameters(self) -> None:
        """Do nothing; here for code written for torch.nn. There are no flat weight buffers."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction."""
        return [list(tensors(self, run.names.weights)) for run in self._runs]

    def _name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, as torch prints them."""
        shown = [str(self.input_size), str(self.hidden_size)]
        if type(self) is Recurrent:
            shown.insert(0, self.cell.name)
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "learn_initial_state": False,
            "engine": "auto",
            "init": (),
            "weight_drop": 0.0,
            "activation_l1": 0.0,
            "omega": 0.0,
            "connections": "plain",
            "recompute": False,
        }
        changed = {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}
        return ", ".join([*shown, *(f"{k}={v!r}" for k, v in changed.items())])
