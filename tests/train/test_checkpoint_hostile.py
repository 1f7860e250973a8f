"""Is every file made to do harm refused, without running it and without much memory?"""

import contextlib
import hashlib
import json
import os
import pickle
import struct
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import CheckpointError
from throughtime.train.checkpoint import MAGIC, load_checkpoint, load_model, save_checkpoint
from throughtime.train.sealed import unseal

LIMIT_BYTES = 16 * 2**20


def forge(entries, data, *, header=None, metadata=None, index=None):
    """A model file whose hashes are all right, with the parts that are given in place of its own.

    Args:
        entries: (name, dtype in safetensors' words, shape, begin, end) of each tensor.
        data: The bytes of the tensors.
        header: Text of the header.
        metadata: JSON of the metadata, which holds the header.
        index: JSON text before the tensors, which holds the metadata.
    """
    dtypes = {"F32": "float32", "I32": "int32", "BOOL": "bool"}
    manifest = {
        name: [dtypes.get(dtype, dtype), shape, hashlib.sha256(data[begin:end]).hexdigest()]
        for name, dtype, shape, begin, end in entries
    }
    header = header or json.dumps({"format": 1, "meta": {}, "tensors": manifest})
    sealed = hashlib.sha256(header.encode(errors="surrogatepass")).hexdigest() + header
    rows = {name: {"dtype": d, "shape": s, "data_offsets": [b, e]} for name, d, s, b, e in entries}
    first = {"throughtime": sealed} if metadata is None else metadata
    text = index or json.dumps({"__metadata__": first, **rows}).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = ("w", "F32", [1], 0, 4)


def without(text, *changes):
    """The good file with changes of its text that leave its length as it was or not."""
    good = forge([ONE], b"abcd")
    index = good[8:-4]
    for old, new in [text, *changes]:
        assert old in index
        index = index.replace(old, new)
    return forge([ONE], b"abcd", index=index)


def header_of(**parts):
    whole = {"format": 1, "meta": {}, "tensors": {}} | parts
    return forge([], b"", header=json.dumps({k: v for k, v in whole.items() if v is not None}))


TWO = [("a", "F32", [1], 0, 4), ("b", "F32", [1], 4, 8)]
HOSTILE = {
    "key of a tensor twice": (
        lambda: without((
            b'"w": {',
            b'"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "w": {',
        )),
        "the key 'w' stands twice",
    ),
    "key of the header twice": (
        lambda: forge([], b"", header='{"format":1,"meta":{},"meta":{},"tensors":{}}'),
        "the key 'meta' stands twice",
    ),
    "strides": (
        lambda: without((b'"shape": [1]', b'"shape": [1], "stride": [0]')),
        "the keys of 'w' in its index are wrong",
    ),
    "second metadata": (
        lambda: forge([], b"", metadata={"throughtime": "", "format": "pt"}),
        "the keys of '__metadata__' in its index are wrong",
    ),
    "giant by its shape": (
        lambda: forge([("w", "F32", [10**9], 0, 4)], b"abcd"),
        "its tensors cannot be read",
    ),
    "shape that overflows": (
        lambda: forge([("w", "F32", [2**40, 2**40], 0, 4)], b"abcd"),
        "its tensors cannot be read",
    ),
    "shape that overflows to nothing": (
        lambda: forge([("w", "F32", [0, 2**62, 8], 0, 0)], b""),
        "its tensors cannot be read",
    ),
    "size beyond torch's": (
        lambda: forge([("w", "F32", [0, 2**63], 0, 0)], b""),
        "its tensors cannot be read",
    ),
    "names of a million letters": (
        lambda: forge([(n * 10**6, "F32", [1], 0, 4) for n in "ab"], b"abcd"),
        "its tensors cannot be read",
    ),
    "key of a million letters twice": (
        lambda: forge([], b"", index=b'{"%b":1,"%b":1}' % (b"w" * 10**6, b"w" * 10**6)),
        "stands twice",
    ),
    "names of lines": (
        lambda: forge([(n, "F32", [1], 0, 4) for n in ("a\na", "b\nb")], b"abcd"),
        "its tensors cannot be read",
    ),
    "negative shape": (lambda: forge([("w", "F32", [-1], 0, 4)], b"abcd"), "cannot be read"),
    "overlapping tensors": (
        lambda: forge([("a", "F32", [1], 0, 4), ("b", "F32", [1], 0, 4)], b"abcd"),
        "its tensors cannot be read",
    ),
    "hole between tensors": (
        lambda: forge([("a", "F32", [1], 0, 4), ("b", "F32", [1], 8, 12)], b"abcdefghijkl"),
        "its tensors cannot be read",
    ),
    "offsets beyond the file": (
        lambda: forge([("w", "F32", [2**20], 0, 2**22)], b"abcd"),
        "its tensors cannot be read",
    ),
    "dtype without a name in torch": (
        lambda: forge([("w", "F4", [8], 0, 4)], b"abcd"),
        "its tensors cannot be read",
    ),
    "another dtype of the same size": (
        lambda: without((b'"dtype": "F32"', b'"dtype": "I32"')),
        "tensor 'w' is ['int32', [1], ",
    ),
    "another shape of the same size": (
        lambda: without((b'"shape": [1]', b'"shape": [1, 1]')),
        "tensor 'w' is ['float32', [1, 1], ",
    ),
    "swapped tensors": (
        lambda: forge(TWO, b"aaaabbbb").replace(b"aaaabbbb", b"bbbbaaaa"),
        "tensor 'a' is ['float32', [1], ",
    ),
    "swapped names": (
        lambda: forge(
            [ONE], b"abcd", index=forge([ONE], b"abcd")[8:-4].replace(b'"w": {', b'"v": {')
        ),
        "its header and its tensors differ in 'v', 'w'",
    ),
    "bool of two": (lambda: forge([("w", "BOOL", [2], 0, 2)], b"\1\2"), "['no bool', [2], "),
    "header of another file": (
        lambda: forge([ONE], b"abcd", metadata={"throughtime": "0" * 64 + "{}"}),
        "the hash of its header is wrong",
    ),
    "no header": (
        lambda: forge([ONE], b"abcd", metadata={"throughtime": 3}),
        "no header of through",
    ),
    "no metadata": (lambda: forge([], b"", index=b"{}"), "no header of throughtime"),
    "metadata is no object": (lambda: forge([], b"", metadata=[]), "the keys of '__metadata__'"),
    "later format": (lambda: header_of(format=2), "another format than 1"),
    "no format": (lambda: header_of(format=None), "another format than 1"),
    "header is no object": (lambda: forge([], b"", header="[1]"), "another format than 1"),
    "no meta": (lambda: header_of(meta=None), "the keys of its header are wrong"),
    "meta is no object": (lambda: header_of(meta=[1]), "the keys of its header are wrong"),
    "tensors are no object": (lambda: header_of(tensors=[1]), "the keys of its header are wrong"),
    "one part too many": (lambda: header_of(code="print(1)"), "the keys of its header are wrong"),
    "tensor that is not there": (lambda: header_of(tensors={"w": []}), "differ in 'w'"),
    "tensor without a description": (
        lambda: forge([ONE], b"abcd", header='{"format":1,"meta":{},"tensors":{"w":null}}'),
        "tensor 'w' is ['float32', [1], ",
    ),
    "NaN in the header": (
        lambda: forge([], b"", header='{"format":1,"meta":{"x":NaN},"tensors":{}}'),
        "NaN is not a JSON number",
    ),
    "half a character": (
        lambda: forge([], b"", header='{"format":1,"meta":{"x":"\ud800"},"tensors":{}}'),
        "its header is not JSON",
    ),
    "deep header": (lambda: forge([], b"", header="[" * 10**6), "nested too deeply"),
    "deep index": (lambda: forge([], b"", index=b"[" * 10**6), "nested too deeply"),
    "index is a list": (lambda: forge([], b"", index=b"[]"), "its index is not a JSON object"),
    "index ends in a newline": (
        lambda: forge([ONE], b"abcd", index=forge([ONE], b"abcd")[8:-4] + b"\n"),
        "its index is not a JSON object",
    ),
    "index is not UTF-8": (lambda: forge([], b"", index=b'{"\xff":1}'), "its index is not JSON"),
    "index longer than the file": (lambda: struct.pack("<Q", 2**63) + b"{}", "its index claims"),
    "huge index": (
        lambda: forge([], b"", index=b"{}" + b" " * LIMIT_BYTES),
        "its index claims 16,777,218 of",
    ),
    "empty file": (lambda: b"", "its index claims 0 of 0 bytes"),
}


def as_checkpoint(data):
    return MAGIC + data + hashlib.sha256(MAGIC + data).digest()


def test_the_forger_can_make_a_good_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(forge(TWO, b"aaaabbbb"))
    assert bytes(load_model(path).tensors["b"].view(torch.uint8)) == b"bbbb"
    path.write_bytes(as_checkpoint(forge(TWO, b"aaaabbbb")))
    assert bytes(load_checkpoint(path).tensors["a"].view(torch.uint8)) == b"aaaa"


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize(
    ("load", "wrap"), [(load_model, bytes), (load_checkpoint, as_checkpoint)], ids=["model", "ckpt"]
)
def test_a_hostile_file_is_refused(tmp_path, case, load, wrap):
    make, reason = HOSTILE[case]
    path = tmp_path / "file"
    path.write_bytes(wrap(make()))
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


SIZES = st.integers(0, 3) | st.sampled_from([2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1])
ENTRIES = st.tuples(
    st.sampled_from(["a", "b", "\n", ""]),
    st.sampled_from(["F64", "F32", "BF16", "F8_E4M3", "F8_E8M0", "F4", "C64", "U64", "BOOL", "Q8"]),
    st.lists(SIZES, max_size=4),
    st.integers(0, 16),
    st.integers(0, 16),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(ENTRIES, max_size=3), st.binary(max_size=16))
def test_a_forged_index_is_refused_or_holds_what_it_says(entries, data):
    forged = forge(entries, data)
    try:
        tensors = unseal(forged, "file").tensors
    except CheckpointError:
        return
    assert {name: list(t.shape) for name, t in tensors.items()} == {e[0]: e[2] for e in entries}
    assert sum(t.nbytes for t in tensors.values()) == len(data)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "last.ckpt"
    data = b"throughtime checkpoint 2\n" + forge([], b"")
    path.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it starts with b'throughtime"):
        load_checkpoint(path)


class Bomb:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("load", [load_checkpoint, load_model])
def test_a_pickle_is_refused_and_not_run(tmp_path, load):
    mark, path = tmp_path / "mark", tmp_path / "file"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()  # the bomb works
    mark.rmdir()
    data = pickle.dumps(Bomb(mark))
    for hostile in (data, MAGIC + data, as_checkpoint(data)):
        path.write_bytes(hostile)
        with pytest.raises(CheckpointError):
            load(path)
    torch.save(Bomb(mark), path)
    with pytest.raises(CheckpointError):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize("load", [load_checkpoint, load_model])
def test_only_a_regular_file_is_opened(tmp_path, load):
    save_checkpoint(tmp_path / "last.ckpt", {}, {})
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "last.ckpt")
    os.mkfifo(pipe)
    for path, reason in [
        (link, "it is a symbolic link"),
        (pipe, "it is not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
    ]:
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert reason in str(caught.value)
        assert str(path) in str(caught.value)


def peak_bytes(load, path):
    tracemalloc.start()
    with contextlib.suppress(CheckpointError):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_good_file_takes_at_most_twice_its_size(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {f"{i}": torch.ones(2**18) for i in range(8)}, {})
    assert path.stat().st_size > 2**23
    assert peak_bytes(load_checkpoint, path) < 2.1 * path.stat().st_size


@pytest.mark.parametrize(
    "case", ["giant by its shape", "shape that overflows", "offsets beyond the file", "huge index"]
)
def test_a_small_lie_takes_little_memory(tmp_path, case):
    path = tmp_path / "file"
    path.write_bytes(HOSTILE[case][0]())
    assert peak_bytes(load_model, path) < path.stat().st_size + 2**20


def test_json_made_to_swell_is_bounded(tmp_path):
    path = tmp_path / "file"
    count = 2 * 10**5
    path.write_bytes(header_of(meta={"x": [[]] * count}, format=2))
    assert path.stat().st_size > 4 * count
    assert peak_bytes(load_model, path) < 25 * path.stat().st_size
