"""How are tensors and JSON put into bytes so that any damage shows?

The bytes are a plain safetensors file. Its one metadata entry, "throughtime", is

    <SHA-256 of the rest, 64 hex digits>{"format":1,"meta":{...},"tensors":{name:[...],...}}

with [dtype, shape, SHA-256 of the numbers] for each tensor. So no tensor changes unseen, nor
`meta`. Nothing in such a file can run: it is JSON and numbers. The hashes show damage, not who
wrote the file.
"""

import hashlib
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from throughtime.errors import CheckpointError
from throughtime.records.strict_json import dumps, loads, parse

__all__ = ["Sealed", "seal", "unseal"]

_FORMAT = 1
_KEY = "throughtime"
# Parsed JSON takes up to about 25 times its bytes; a file from a stranger gets no more than this.
_INDEX_LIMIT = 16 * 2**20
_DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
}  # fmt: skip
# What torch raises on sizes beyond its own depends on its version.
_UNREADABLE = (SafetensorError, KeyError, TypeError, ValueError, OverflowError, RuntimeError)


class Sealed(NamedTuple):
    """What `seal` was given."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def seal(tensors: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """The bytes of a safetensors file that holds `tensors`, `meta` and the hashes of both.

    Args:
        tensors: Strided tensors of any device and any strides; each is copied.
        meta: Dicts with string keys, lists, str, int, float (nan and inf too), bool and None.

    Raises:
        CheckpointError: A tensor or a part of `meta` is of a kind that the file cannot hold.
    """
    if not isinstance(meta, dict):
        raise CheckpointError(f"meta is a {type(meta).__name__}; expected a dict. Put it into one.")
    plain = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    manifest = {name: _describe(tensor) for name, tensor in plain.items()}
    try:
        header = dumps({"format": _FORMAT, "meta": meta, "tensors": manifest})
    except ValueError as error:
        raise CheckpointError(f"meta cannot be saved: {error}. Convert it.") from error
    digest = hashlib.sha256(header.encode()).hexdigest()
    data = safetensors.torch.save(plain, {_KEY: digest + header})
    if int.from_bytes(data[:8], "little") > _INDEX_LIMIT:
        raise CheckpointError(
            f"meta and the tensors' names take {len(header):,} bytes as JSON; at most "
            f"{_INDEX_LIMIT:,} can be saved. Put long lists of numbers into a tensor."
        )
    return data


def unseal(data: bytes, origin: str) -> Sealed:
    """The tensors, in new memory, and the meta that `seal` was given, every hash verified.

    Takes at most twice the memory of `data`, and what its JSON (bounded) needs.

    Args:
        data: What `seal` returned.
        origin: The name of the file, for messages.

    Raises:
        CheckpointError: `data` is not exactly what `seal` returns; the message names the part.
    """
    meta, manifest = _read_header(_read_index(data, origin), origin)
    try:
        tensors = safetensors.torch.load(data)
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise _damaged(origin, f"its tensors cannot be read: {reason:.200}") from error
    if tensors.keys() != manifest.keys():
        names = ", ".join(map(repr, sorted(tensors.keys() ^ manifest.keys())))
        raise _damaged(origin, f"its header and its tensors differ in {names:.80}")
    for name, expected in manifest.items():
        found = _describe(tensors[name])
        if found != expected:
            raise _damaged(origin, f"tensor {name!r:.80} is {found}, not {expected!s:.120}")
    return Sealed({name: tensors[name] for name in manifest}, meta)


def _plain(name: str, tensor: Tensor) -> Tensor:
    """A copy in row-major order on the CPU, which shares no memory with another tensor."""
    if not name.isprintable() or name == "__metadata__":
        raise CheckpointError(f"{name!r} cannot be the name of a saved tensor. Rename it.")
    if tensor.layout != torch.strided or tensor.dtype not in _DTYPES or tensor.is_meta:
        raise CheckpointError(
            f"tensor {name!r} is {tensor.dtype}, {tensor.layout}, on {tensor.device}; a file holds "
            "strided tensors of real numbers, integers, bool or complex64. Convert it."
        )
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _describe(tensor: Tensor) -> list[Any]:
    """Dtype, shape and hash; a bool that is neither 0 nor 1 is no bool."""
    data = tensor.reshape(-1).view(torch.uint8)
    is_sound = tensor.dtype != torch.bool or not bool((data > 1).any())
    dtype = str(tensor.dtype).removeprefix("torch.") if is_sound else "no bool"
    return [dtype, list(tensor.shape), hashlib.sha256(data.numpy().data).hexdigest()]


def _read_index(data: bytes, origin: str) -> dict[str, Any]:
    """The JSON before the tensors; safetensors itself takes repeated and unknown keys."""
    size = int.from_bytes(data[:8], "little")
    if size > min(len(data) - 8, _INDEX_LIMIT):
        raise _damaged(origin, f"its index claims {size:,} of {len(data):,} bytes")
    text = data[8 : 8 + size].rstrip(b" ")
    try:
        index = parse(text)
    except ValueError as error:
        raise _damaged(origin, f"its index is not JSON: {error}") from error
    if not isinstance(index, dict) or not text.endswith(b"}"):
        raise _damaged(origin, "its index is not a JSON object")
    for name, entry in index.items():
        keys = {_KEY} if name == "__metadata__" else {"dtype", "shape", "data_offsets"}
        if not isinstance(entry, dict) or entry.keys() != keys:
            raise _damaged(origin, f"the keys of {name!r:.80} in its index are wrong")
    return index


def _read_header(index: dict[str, Any], origin: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The meta and the manifest in the metadata, whose hash is verified."""
    sealed = index.get("__metadata__", {}).get(_KEY)
    if not isinstance(sealed, str):
        raise _damaged(origin, "it has no header of throughtime")
    digest, text = sealed[:64], sealed[64:].encode(errors="surrogatepass")
    if hashlib.sha256(text).hexdigest() != digest:
        raise _damaged(origin, "the hash of its header is wrong")
    try:
        header = loads(text)
    except ValueError as error:
        raise _damaged(origin, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise CheckpointError(
            f"{origin} has another format than {_FORMAT}, which this version reads. "
            "Use the version of throughtime that made it."
        )
    meta, manifest = header.get("meta"), header.get("tensors")
    if len(header) != 3 or not isinstance(meta, dict) or not isinstance(manifest, dict):
        raise _damaged(origin, "the keys of its header are wrong")
    return meta, manifest


def _damaged(origin: str, reason: str) -> CheckpointError:
    return CheckpointError(f"{origin} is damaged: {reason}. Use a copy of it.")
