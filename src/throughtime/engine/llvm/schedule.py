"""In which order are the values of a step computed? Stages, each products and then pointwise.

A value's *level* counts the products and row sums below it; its *home* is the earliest level at
which something asks for it, so that it is not stored for later needlessly. Values of one home and
one width make a stage: its products first, for a block of units and rows at a time, then all that
is computed from them, while they are in the cache. What a later stage needs of an earlier one is
carried in memory, or computed again where that is cheap. Values of width 1 come first in their
level, since the wide ones may read them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from throughtime.declare.graph import COMPARISONS, Node, Width, walk
from throughtime.engine.llvm.lowering import Place, Root

__all__ = ["Pass", "Schedule", "Stage", "scheduled"]

_DEAR = frozenset({"sigmoid", "tanh", "exp", "log", "softplus", "sin", "cos", "sqrt", "div", "pow"})
_REPEATED = 6  # as many cheap operations are rather repeated than stored and loaded
Matrix = tuple[str, int, bool]  # gate, number of the read, whether transposed


@dataclass(frozen=True)
class Pass:
    """Some neighbouring columns of a stage's products that read the same.

    Attributes:
        reads: The places that are read; several neighbouring ones are one longer row.
        column: The first column.
        matrices: For each column a matrix per read, None where a column does not read it.
        more: Whether an earlier pass has begun these columns.
    """

    reads: tuple[Place, ...]
    column: int
    matrices: tuple[tuple[Matrix | None, ...], ...]
    more: bool

    @property
    def columns(self) -> range:
        """All its columns."""
        return range(self.column, self.column + len(self.matrices))


@dataclass(frozen=True)
class Stage:
    """Values of one level and width.

    Attributes:
        width: Of all its values.
        products: Its sums of products; the place of each is its column.
        passes: How these are computed.
        roots: What is kept.
        sums: The row sums that its values enter.
        loaded: The values that earlier stages have stored for it.
    """

    width: Width
    products: tuple[Node, ...]
    passes: tuple[Pass, ...]
    roots: tuple[Root, ...]
    sums: tuple[Node, ...]
    loaded: dict[Node, None]


@dataclass(frozen=True)
class Schedule:
    """A step as stages.

    Attributes:
        stages: In order.
        places: Where values that were carried, read or summed are found, by node.
        loads, stores: The last level at which a place is loaded, or stored.
        reads: Where each matrix finds what it reads, by gate and number of the read.
        reading: Where the values lie that are stored for products alone.
    """

    stages: tuple[Stage, ...]
    places: dict[Node, Place]
    loads: dict[Place, int]
    stores: dict[Place, int]
    reads: dict[tuple[str, int], Place]
    reading: dict[Node, Place]

    def read_place(self, arg: Node, matrix: Matrix) -> Place:
        """Where a product finds what a matrix reads."""
        return _read_place(arg, matrix, self.reading)


def _read_place(arg: Node, matrix: Matrix, reading: Mapping[Node, Place]) -> Place:
    """Where a matrix reads: an adjoint at its gate, a leaf where it lies, others as stored."""
    if matrix[2]:
        return ("adjoint", matrix[0])
    return arg.data if _stays(arg) else reading[arg]


def scheduled(roots: Sequence[Root], rank: Mapping[str, int]) -> Schedule:
    """Put the values of a step in order.

    Args:
        roots: What is kept.
        rank: The order of the gates in memory; those of one width follow each other.
    """
    return _Scheduler(roots, rank).schedule()


@dataclass
class _Demand:
    """What one stage must compute and keep."""

    roots: list[Root] = field(default_factory=list)
    products: dict[Node, None] = field(default_factory=dict)
    sums: dict[Node, None] = field(default_factory=dict)
    loaded: dict[Node, None] = field(default_factory=dict)


class _Scheduler:
    def __init__(self, roots: Sequence[Root], rank: Mapping[str, int]) -> None:
        self.roots, self.rank = roots, rank
        self.level: dict[Node, int] = {}
        self.cost: dict[Node, float] = {}
        order = list(walk([r.value for r in roots]))
        for n in order:
            self._rate(n)
        self.home = self._homes(order)
        self.places: dict[Node, Place] = {}
        self.reading: dict[Node, Place] = {}
        self.demands: dict[tuple[int, Width], _Demand] = {}
        self.loads: dict[Place, int] = {}
        self.stores: dict[Place, int] = {}

    def _rate(self, n: Node) -> None:
        """The level of a value, and what it costs to compute it from leaves alone."""
        below = max((self.level[a] for a in n.args), default=0)
        self.level[n] = below + (n.op in {"products", "row_sum"})
        dear = n.op in _DEAR or n.op in {"products", "row_sum"}
        self.cost[n] = sum(self.cost[a] for a in n.args) + (
            float("inf") if dear else float(bool(n.args))
        )

    def _homes(self, order: Sequence[Node]) -> dict[Node, int]:
        """Where each value is computed: not before anyone needs it."""
        asked: dict[Node, int] = {}
        home: dict[Node, int] = {}
        for n in reversed(order):
            home[n] = max(self.level[n], asked.get(n, 0))
            before = home[n] - (n.op in {"products", "row_sum"})
            for a in n.args:
                asked[a] = min(before, asked.get(a, before))
        return home

    def schedule(self) -> Schedule:
        """Stage by stage from the last to the first, since each asks earlier ones for values."""
        for root in self.roots:
            self._keep(root)
            if not root.adds and root.value.op not in {"at", "constant", "row_sum"}:
                self.places.setdefault(root.value, root.place)
        top = max((level for level, _ in self.demands), default=0)
        stages: list[Stage] = []
        for level in range(top, -1, -1):
            wide = [k for k in self.demands if k[0] == level and k[1] != 1]
            found = [self._stage(k) for k in wide]
            if (level, 1) in self.demands:  # after the wide ones have asked for its values
                found.append(self._stage((level, 1)))
            stages += found
        stages.reverse()
        reads = {
            (m[0], m[1]): self.read_place(a, m)
            for stage in stages
            for n in stage.products
            for a, m in zip(n.args, n.data, strict=True)
        }
        stores, loads = self.stores, self.loads
        return Schedule(tuple(stages), self.places, loads, stores, reads, self.reading)

    def _stage(self, key: tuple[int, Width]) -> Stage:
        level, width = key
        demand = self.demands[key]
        asked: set[Node] = set()
        pending = [r.value for r in demand.roots] + [s.args[0] for s in demand.sums]
        while pending:
            n = pending.pop()
            if n in asked:
                continue
            asked.add(n)
            pending += self._needs(n, level, width, demand)
        products = tuple(sorted(demand.products, key=self._order))
        passes = self._passes(products, width)
        roots, sums = tuple(demand.roots), tuple(demand.sums)
        return Stage(width, products, passes, roots, sums, demand.loaded)

    def _needs(self, n: Node, level: int, width: Width, demand: _Demand) -> Iterable[Node]:
        """What a stage computes a value from; what it loads, it asks of earlier stages."""
        if n.op == "at":
            self._loaded(n.data, level)
            return ()
        if n.op == "constant":
            return ()
        if n.op == "row_sum" and n.args[0].width == 1:
            return n.args
        if n.op == "row_sum":
            self._sum(n)
            demand.loaded.setdefault(n)
            self._loaded(self.places[n], level)
            return ()
        here = self.home[n] == level and n.width == width
        if n.op == "products" and here:
            demand.products.setdefault(n)
            self._read(n)
            return ()
        if here or n.op in COMPARISONS or self.cost[n] <= _REPEATED:
            return n.args
        self._carried(n)
        demand.loaded.setdefault(n)
        self._loaded(self.places[n], level)
        return ()

    def _loaded(self, place: Place, level: int) -> None:
        self.loads[place] = max(level, self.loads.get(place, 0))

    def _carried(self, n: Node) -> None:
        if n not in self.places:
            self.places[n] = ("carried", len(self.places))
            self._keep(Root(n, self.places[n], n.width))

    def _keep(self, root: Root) -> None:
        level = self.home[root.value]
        self.stores[root.place] = level
        self.demands.setdefault((level, root.width), _Demand()).roots.append(root)

    def _sum(self, n: Node) -> None:
        """A row sum is made by the stage that makes its argument, or the next below it."""
        if n not in self.places:
            self.places[n] = ("sum", len(self.places))
            arg = n.args[0]
            key = (self.home[arg], arg.width)
            self.demands.setdefault(key, _Demand()).sums.setdefault(n)

    def _read(self, n: Node) -> None:
        """Products read memory: a leaf, or what an earlier stage stores for them."""
        for arg, matrix in zip(n.args, n.data, strict=True):
            if not matrix[2] and not _stays(arg) and arg not in self.reading:
                after = self.places.get(arg, ("",))
                place = after if after[0] == "after" else ("read", len(self.reading))
                self.reading[arg] = place
                if place is not after:
                    self._keep(Root(arg, place, arg.width))

    def read_place(self, arg: Node, matrix: Matrix) -> Place:
        """Where a product reads."""
        return _read_place(arg, matrix, self.reading)

    def _order(self, n: Node) -> tuple[object, ...]:
        reads = [self.read_place(a, m) for a, m in zip(n.args, n.data, strict=True)]
        return [self._number(r) for r in reads], [self.rank[m[0]] for m in n.data]

    def _number(self, place: Place) -> tuple[object, ...]:
        """A place without the names that a user gave."""
        return tuple(
            self.rank.get(part, -1) if isinstance(part, str) and i else part
            for i, part in enumerate(place)
        )

    def _passes(self, products: Sequence[Node], width: Width) -> tuple[Pass, ...]:
        """The products of a stage, neighbouring columns that read the same together."""
        found: dict[tuple[Place, int], dict[int, Matrix]] = {}
        for column, n in enumerate(products):
            seen: Counter[Place] = Counter()
            for arg, matrix in zip(n.args, n.data, strict=True):
                place = self.read_place(arg, matrix)
                found.setdefault((place, seen[place]), {})[column] = matrix
                seen[place] += 1  # one value may be read twice
        passes: list[Pass] = []
        started: set[int] = set()
        for place, again in sorted(found, key=self._reading_order):
            by_column = found[place, again]
            # Columns of single units lie in one vector: each pass computes them all.
            whole = range(len(products)) if width == 1 else sorted(by_column)
            for columns in _runs(whole, started):
                matrices = tuple((by_column.get(c),) for c in columns)
                passes.append(Pass((place,), columns[0], matrices, columns[0] in started))
                started |= set(columns)
        return tuple(_joined(passes, self._neighbours))

    def _reading_order(self, key: tuple[Place, int]) -> tuple[int, int]:
        place, again = key
        return again, self.rank[str(place[1])] if place[0] == "adjoint" else 0

    def _neighbours(self, a: Place, b: Place) -> bool:
        """Whether one read follows another in memory, and can be read with it."""
        if a[0] != "adjoint" or b[0] != "adjoint":
            return False
        return self.rank[str(b[1])] == self.rank[str(a[1])] + 1


def _stays(read: Node) -> bool:
    """Whether a product may read a value where it lies, since it is still there afterwards."""
    return read.op == "at" and read.data[0] in {"past", "once", "extra"}


def _joined(passes: list[Pass], neighbours: Callable[[Place, Place], bool]) -> list[Pass]:
    """The passes, with neighbouring reads for the same columns as one longer read."""
    found: list[Pass] = []
    for p in passes:
        before = found[-1] if found else None
        if before is None or not (
            before.columns == p.columns and neighbours(before.reads[-1], p.reads[0])
        ):
            found.append(p)
            continue
        pairs = zip(before.matrices, p.matrices, strict=True)
        matrices = tuple(a + b for a, b in pairs)
        found[-1] = Pass(before.reads + p.reads, p.column, matrices, before.more)
    return found


def _runs(columns: Iterable[int], started: set[int]) -> list[list[int]]:
    """Neighbouring columns, apart where some were begun by an earlier pass and some not."""
    found: list[list[int]] = []
    for c in columns:
        follows = found and found[-1][-1] == c - 1
        if follows and (c in started) == (c - 1 in started):
            found[-1].append(c)
        else:
            found.append([c])
    return found
