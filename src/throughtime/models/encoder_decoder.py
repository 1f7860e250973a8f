"""How does one sequence become another? A reader, a context, and a writer that hears itself."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from throughtime.declare import Cell
from throughtime.declare.graph import walk
from throughtime.errors import ConfigError, ShapeError
from throughtime.models.language_model import Hx, Softmax
from throughtime.models.state_vector import StateVector
from throughtime.models.tokens import Tokens, check_tokens
from throughtime.nn import Recurrent
from throughtime.nn.arguments import check_size
from throughtime.nn.extras import extra_values

__all__ = ["EncoderDecoder", "UseOfContext"]

UseOfContext = Literal["initial", "input", "both"]


class _Said(NamedTuple):
    """What the decoder knows of the source: the state it starts from, and what it sees."""

    hx: Hx
    vector: Tensor | None


class EncoderDecoder(nn.Module):
    """Read a sequence into a context, then write another one, symbol by symbol.

        C = the encoder's last state,   s_0 = C or V C + b,
        s_t = decoder([E y_{t-1}; C], s_{t-1}),   p(y_t | y_1..y_{t-1}, x) = softmax(W s_t + b)

    C holds the states of all layers and directions, not what the last layer emits from them. As
    the initial state it is handed over as it is where the two stacks have the same states, and
    through V where they have not; as input it joins the symbol at every step. `end` closes a
    target and is what the decoder hears first.

    In training the decoder hears the true previous symbol (teacher forcing), or with probability
    1 - `teacher_forcing`, for each step and row, the symbol it would have written itself
    (scheduled sampling; no gradient passes through that choice).

    Args:
        encoder: Cell of every encoder layer.
        decoder: Cell of every decoder layer.
        source_size: Number of source symbols.
        target_size: Number V of target symbols, `end` included.
        hidden_size: Units of a layer, in both stacks; or a sequence, one for each layer.
        num_layers: Layers of either stack.
        embedding_size: Size of a symbol's vector.
        end: The target symbol that closes a sequence.
        context: Where C enters: the "initial" state, the "input" of every step, or "both".
        bidirectional: The encoder reads in both directions.
        proj_size: Units of the projected state, for cells that have one.
        dropout: Probability of dropping a value of an embedding, between layers, of the output.
        engine: What runs the recurrences.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Shape:
        source: [S, B]; target: [T, B]; lengths: [B]; log probabilities: [T, B, V]

    Source:
        Cho et al. 2014, arXiv:1406.1078 ("both"); Sutskever et al. 2014, arXiv:1409.3215
        ("initial"); Goodfellow et al. 2016, sec. 10.4; Bengio et al. 2015, arXiv:1506.03099.
        Differs: V is linear, without Cho's tanh, so that it reaches any cell's state; `end` also
        begins.

    Example:
        >>> import torch, throughtime as tt
        >>> from throughtime.models import EncoderDecoder
        >>> gru, lstm = tt.cells.CATALOGUE["gru"], tt.cells.CATALOGUE["lstm"]
        >>> model = EncoderDecoder(gru, lstm, 9, 7, 16, embedding_size=5, end=0)
        >>> source, target = torch.randint(9, (4, 3)), torch.randint(7, (6, 3))
        >>> model.nll_nats(source, target, target_lengths=[6, 0, 2]).shape
        torch.Size([6, 3])
    """

    def __init__(  # noqa: PLR0913 (two stacks)
        self,
        encoder: Cell,
        decoder: Cell,
        source_size: int,
        target_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        *,
        embedding_size: int,
        end: int,
        context: UseOfContext = "initial",
        bidirectional: bool = False,
        proj_size: int = 0,
        dropout: float = 0.0,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        check_size("embedding_size", embedding_size)
        check_size("source_size", source_size)
        self.end = _check_end(end, check_size("target_size", target_size))
        self.context = _check_context(context)
        self.source_embedding = nn.Embedding(source_size, embedding_size)
        self.target_embedding = nn.Embedding(target_size, embedding_size)
        self.dropout = nn.Dropout(dropout)

        def stack(cell: Any, input_size: int, *, bidirectional: bool = False) -> Recurrent:
            return Recurrent(
                _check_extras(cell),
                input_size,
                hidden_size,
                num_layers,
                dropout=dropout if num_layers > 1 else 0.0,
                bidirectional=bidirectional,
                proj_size=proj_size if _projects(cell) else 0,
                engine=engine,
            )

        self.encoder = stack(encoder, embedding_size, bidirectional=bidirectional)
        self._read = StateVector(self.encoder)
        seen = 0 if context == "initial" else self._read.width
        self.decoder = stack(decoder, embedding_size + seen)
        self._written = StateVector(self.decoder)
        needed = context != "input" and not self._read.fits(self._written)
        self.bridge = nn.Linear(self._read.width, self._written.width) if needed else None
        self.head = Softmax(self.decoder.output_size, target_size)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_lengths: Any = None,
        target_lengths: Any = None,
        teacher_forcing: float = 1.0,
        temperature: float = 0.0,
    ) -> Tensor:
        """Log probability of every symbol at every step of `target`, [T, B, V].

        Args:
            source: What is read.
            target: What should be written, with `end` where it should stop.
            source_lengths: Real symbols of each source; what lies past them may be anything.
            target_lengths: Real symbols of each target, `end` included.
            teacher_forcing: Probability that the decoder hears the true previous symbol; drawn
                from torch's generator. At 1 the whole target is one call.
            temperature: Of the decoder's own symbols; 0 takes the most probable.

        Raises:
            ShapeError, DtypeError, ConfigError: an argument does not fit.
        """
        features, _ = self._hear(
            source, target, source_lengths, target_lengths, teacher_forcing, temperature
        )
        return self.head.log_probs(features)

    def nll_nats(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_lengths: Any = None,
        target_lengths: Any = None,
        teacher_forcing: float = 1.0,
        temperature: float = 0.0,
    ) -> Tensor:
        """Negative log probability of each target symbol, [T, B]; zero past a row's length.

        Args as for a call.
        """
        features, known = self._hear(
            source, target, source_lengths, target_lengths, teacher_forcing, temperature
        )
        nll = self.head.nll_nats(features, known.symbols.long())
        return nll if known.real is None else torch.where(known.real, nll, 0.0)

    @torch.no_grad()
    def generate(
        self,
        source: Tensor,
        most_steps: int,
        *,
        source_lengths: Any = None,
        temperature: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Write until every row has said `end`, or `most_steps`; in the mode the model is in.

        Args:
            source: What is read.
            most_steps: Steps after which rows are cut off.
            source_lengths: Real symbols of each source.
            temperature: Symbols are drawn from softmax(log p / temperature), from torch's
                generator; 0 takes the most probable.

        Returns:
            The symbols, `end` after the first one of a row; and how many of them are real, the
            first `end` included.

        Shape:
            symbols: [T, B], T <= most_steps; lengths: [B]
        """
        check_size("most_steps", most_steps, least=0)
        _check_temperature(temperature)
        said = self._listen(source, source_lengths)
        held = self._held_extras(source.shape[1])
        symbol = source.new_full((source.shape[1],), self.end, dtype=torch.int64)
        hx, going, written = said.hx, torch.ones_like(symbol, dtype=torch.bool), []
        lengths = torch.zeros_like(symbol)
        while len(written) < most_steps and bool(going.any()):
            features, hx = self._decode(symbol[None], hx, said.vector, extras=held)
            symbol = torch.where(going, self._guess(features, temperature), self.end)
            written.append(symbol)
            lengths += going
            going = going & (symbol != self.end)
        return torch.stack(written) if written else symbol.new_empty(0, len(symbol)), lengths

    def _hear(
        self,
        source: Tensor,
        target: Tensor,
        source_lengths: Any,
        target_lengths: Any,
        teacher_forcing: float,
        temperature: float,
    ) -> tuple[Tensor, Tokens]:
        """The decoder's features at every step of the target, and the target checked."""
        if not 0.0 <= teacher_forcing <= 1.0:
            raise ConfigError(f"teacher_forcing={teacher_forcing}; expected a number in [0, 1].")
        _check_temperature(temperature)
        size = self.head.out_features
        known = check_tokens("target", target, target_lengths, size, self.end)
        said = self._listen(source, source_lengths)
        if source.shape[1] != target.shape[1]:
            raise ShapeError(
                f"target has {target.shape[1]} rows and source {source.shape[1]}; expected one "
                "target for each source."
            )
        fed = torch.cat([torch.full_like(known.symbols[:1], self.end), known.symbols[:-1]])
        if teacher_forcing == 1.0 or not len(fed):
            return self._decode(fed, said.hx, said.vector, lengths=known.lengths)[0], known
        features = self._sample(fed, said, teacher_forcing, temperature)
        if known.real is not None:
            features = torch.where(known.real[..., None], features, 0.0)
        return features, known

    def _sample(self, fed: Tensor, said: _Said, truth: float, temperature: float) -> Tensor:
        """Features of every step, where the decoder hears `fed` with probability `truth`."""
        told = torch.rand(fed.shape, device=fed.device) < truth
        held = self._held_extras(fed.shape[1])
        found, hx, symbol = [], said.hx, fed[0]
        for t in range(len(fed)):
            features, hx = self._decode(symbol[None], hx, said.vector, extras=held)
            found.append(features)
            if t + 1 < len(fed):
                symbol = torch.where(told[t + 1], fed[t + 1], self._guess(features, temperature))
        return torch.cat(found)

    @torch.no_grad()
    def _guess(self, features: Tensor, temperature: float) -> Tensor:
        """The symbols, [B], that the decoder writes after features [1, B, F]."""
        log_probs = self.head.log_probs(features)[0].float()
        if temperature == 0.0:
            return log_probs.argmax(-1)
        # Subtracting the largest before dividing keeps tiny temperatures finite.
        largest = log_probs.max(-1, keepdim=True).values
        return torch.multinomial(((log_probs - largest) / temperature).exp(), 1)[:, 0]

    def _listen(self, source: Tensor, lengths: Any) -> _Said:
        """Run the encoder."""
        known = check_tokens("source", source, lengths, self.source_embedding.num_embeddings, 0)
        embedded = self.dropout(self.source_embedding(known.symbols))
        _, hx = self.encoder(embedded, lengths=known.lengths)
        if self.context == "initial" and self.bridge is None:
            return _Said(hx, None)
        vector = self._read.flatten(hx, source.shape[1], self.source_embedding.weight)
        start = None if self.context == "input" else hx
        if self.bridge is not None:
            start = self._written.unflatten(self.bridge(vector))
        return _Said(start, None if self.context == "initial" else vector)

    def _decode(
        self,
        symbols: Tensor,
        hx: Hx,
        context: Tensor | None,
        *,
        lengths: Tensor | None = None,
        extras: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, Hx]:
        """Run the decoder over symbols, [T, B]: its features, [T, B, F], and its state."""
        x = self.dropout(self.target_embedding(symbols))
        if context is not None:
            x = torch.cat([x, context.expand(*x.shape[:2], -1)], -1)
        features, hx = self.decoder(x, hx, lengths=lengths, extras=extras)
        return self.dropout(features), hx

    def _held_extras(self, rows: int) -> dict[str, Tensor] | None:
        """Draws that hold for a whole sequence, taken once, where each step is a call of its own.

        Shape:
            each [B, w]
        """
        cell, sizes = self.decoder.cell, self._written.sizes
        held = [e.name for e in cell.extras if e.per == "sequence"]
        if not held or not self.training:
            return None
        if len({s.hidden for s in sizes}) > 1:
            raise ConfigError(
                f"teacher_forcing is below 1, where {cell.name} needs one draw of {held[0]} for "
                "all layers, but they differ in width; expected equal sizes in hidden_size."
            )
        like = self.target_embedding.weight.new_empty(1, rows, 0)
        values = extra_values(cell, {}, sizes[0], like, None, like.dtype, training=True)
        named = zip(cell.extras, values, strict=True)
        return {extra.name: value[0] for extra, value in named if extra.name in held}


def _check_context(context: UseOfContext) -> UseOfContext:
    if context not in get_args(UseOfContext):
        raise ConfigError(
            f"context={context!r}; expected one of {', '.join(get_args(UseOfContext))}."
        )
    return context


def _check_end(end: int, size: int) -> int:
    if check_size("end", end, least=0) >= size:
        raise ConfigError(f"end={end}; expected a target symbol, 0 to {size - 1}.")
    return end


def _check_temperature(temperature: float) -> None:
    if not 0.0 <= temperature < math.inf:
        raise ConfigError(f"temperature={temperature}; expected a number, zero or more.")


def _check_extras(cell: Any) -> Any:
    data = [e.name for e in cell.extras if e.sample is None] if isinstance(cell, Cell) else []
    if data:
        raise ConfigError(
            f"{cell.name} takes the extra {data[0]!r} as data, which symbols do not bring; "
            "expected a cell whose extras are drawn."
        )
    return cell


def _projects(cell: Any) -> bool:
    """Whether a cell takes a proj_size, which the other stack's cell may refuse."""
    nodes = walk((*cell.new, *cell.out)) if isinstance(cell, Cell) else ()
    return any(node.width == "projection" for node in nodes)
