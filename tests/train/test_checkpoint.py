"""Does a checkpoint come back bit for bit, and does the newest whole one?"""

import json
import math

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import CheckpointError
from throughtime.train.checkpoint import (
    load_checkpoint,
    load_latest,
    load_model,
    save_checkpoint,
    save_model,
)
from throughtime.train.sealed import seal, unseal

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
]  # fmt: skip
WAYS = [(save_checkpoint, load_checkpoint), (save_model, load_model)]
META = {"update": 2**80, "best_loss_nats": math.inf, "rate": 0.1, "words": ["nan", "é"], "hx": None}


def bits(tensor):
    return tensor.dtype, tensor.shape, bytes(tensor.contiguous().reshape(-1).view(torch.uint8))


@pytest.mark.parametrize(("save", "load"), WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_meta_come_back(tmp_path, save, load, dtype):
    torch.manual_seed(0)
    tensors = {"b": (torch.randn(3, 5) * 3).to(dtype), "a.é": torch.ones((), dtype=dtype)}
    tensors["empty"] = torch.empty(0, 4, dtype=dtype)
    save(tmp_path / "file", tensors, META)
    found, meta = load(tmp_path / "file")
    assert [(name, bits(t)) for name, t in found.items()] == [
        (name, bits(t)) for name, t in tensors.items()
    ]
    assert repr(meta) == repr(META)


def test_nan_and_the_sign_of_zero_keep_their_bits(tmp_path):
    patterns = torch.tensor([0x7FC00001, 0x7F800001, -0x80000000, 0x00000001], dtype=torch.int32)
    save_checkpoint(tmp_path / "last.ckpt", {"x": patterns.view(torch.float32)}, {})
    found = load_checkpoint(tmp_path / "last.ckpt").tensors["x"]
    assert torch.equal(found.view(torch.int32), patterns)


@pytest.mark.parametrize("seed", range(3))
def test_the_generators_state_comes_back(tmp_path, seed):
    torch.manual_seed(seed)
    torch.randn(seed + 5)
    save_checkpoint(tmp_path / "last.ckpt", {"rng": torch.get_rng_state()}, {})
    expected = torch.randn(9)
    torch.set_rng_state(load_checkpoint(tmp_path / "last.ckpt").tensors["rng"])
    assert torch.equal(torch.randn(9), expected)


def test_every_layout_in_memory_is_saved_by_its_values(tmp_path):
    z = torch.randn(3, 4, dtype=torch.complex64)
    tied = torch.nn.Parameter(torch.randn(4, 3))
    tensors = {
        "expanded": torch.ones(1).expand(5, 4),
        "transposed": torch.randn(3, 4).t(),
        "strided": torch.arange(20.0)[3::4],
        "conjugate": z.conj(),
        "negative": z.conj().imag,
        "tied": tied,
        "tied.again": tied,
        "part": tied[1:],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    save_checkpoint(tmp_path / "last.ckpt", tensors, {})
    found = load_checkpoint(tmp_path / "last.ckpt").tensors
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor.detach()), name
        assert found[name].is_contiguous()
        assert not found[name].requires_grad
    found["tied"].fill_(7.0)  # memory of its own, and writable
    assert torch.equal(found["tied.again"], tied.detach())


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists)
    )
)
def test_every_meta_comes_back(meta):
    assert repr(unseal(seal({}, meta), "file").meta) == repr(meta)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    tensors = {f"{i}": torch.full((i,), float(i)) for i in range(9)}
    assert len({seal(tensors, META) for _ in range(5)}) == 1


def test_a_model_is_a_plain_safetensors_file(tmp_path):
    save_model(tmp_path / "model.safetensors", {"w": torch.arange(6.0)}, {"cell": "lstm"})
    assert torch.equal(
        safetensors.torch.load_file(tmp_path / "model.safetensors")["w"], torch.arange(6.0)
    )
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        header = json.loads(file.metadata()["throughtime"][64:])
    assert header["meta"] == {"cell": "lstm"}
    assert header["tensors"]["w"][:2] == ["float32", [6]]


@pytest.mark.parametrize(
    ("tensors", "meta", "reason"),
    [
        (
            {"w": torch.ones(2, device="meta")},
            {},
            "tensor 'w' is torch.float32, torch.strided, on m",
        ),
        ({"w": torch.ones(2).to_sparse()}, {}, "torch.sparse_coo"),
        ({"w": torch.ones(2, dtype=torch.complex128)}, {}, "torch.complex128"),
        ({"w\n": torch.ones(2)}, {}, "'w\\n' cannot be the name"),
        ({"__metadata__": torch.ones(2)}, {}, "'__metadata__' cannot be the name"),
        ({}, {"a": {1: 2}}, "the key 1 of ['meta']['a'] is not a string"),
        ({}, {"hx": (1, 2)}, "['meta']['hx'] is a tuple"),
        ({}, [1], "meta is a list; expected a dict"),
        ({}, {"long": "x" * 2**24}, "at most 16,777,216 can be saved"),
    ],
)
@pytest.mark.parametrize("save", [save_checkpoint, save_model])
def test_nothing_is_saved_that_could_not_be_loaded(tmp_path, save, tensors, meta, reason):
    with pytest.raises(CheckpointError) as caught:
        save(tmp_path / "file", tensors, meta)
    assert reason in str(caught.value)
    assert not list(tmp_path.iterdir())


def save_updates(folder, *updates):
    for update in updates:
        save_checkpoint(
            folder / "last.ckpt", {"w": torch.full((3,), float(update))}, {"update": update}
        )


def flip(path, place=-40):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_two_checkpoints_are_kept(tmp_path):
    save_updates(tmp_path, 1, 2, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "previous.ckpt"}
    found = load_latest(tmp_path)
    assert (found.meta, found.path, found.warning) == ({"update": 3}, tmp_path / "last.ckpt", None)
    assert torch.equal(found.tensors["w"], torch.full((3,), 3.0))
    assert load_checkpoint(tmp_path / "previous.ckpt").meta == {"update": 2}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "last.ckpt is damaged: tensor 'w'"),
        (lambda path: path.write_bytes(b""), "it starts with b''"),
        (lambda path: path.unlink(), "last.ckpt: No such file"),
    ],
)
def test_the_previous_one_is_used_when_the_last_is_damaged(tmp_path, damage, reason):
    save_updates(tmp_path, 1, 2)
    damage(tmp_path / "last.ckpt")
    found = load_latest(tmp_path)
    assert (found.meta, found.path) == ({"update": 1}, tmp_path / "previous.ckpt")
    assert reason in found.warning
    assert "previous.ckpt, is used instead" in found.warning


def test_a_damaged_checkpoint_does_not_push_out_the_good_one_before_it(tmp_path):
    save_updates(tmp_path, 1, 2)
    flip(tmp_path / "last.ckpt")
    save_updates(tmp_path, 3)
    assert load_checkpoint(tmp_path / "last.ckpt").meta == {"update": 3}
    assert load_checkpoint(tmp_path / "previous.ckpt").meta == {"update": 1}


def test_both_damages_are_named_when_nothing_is_left(tmp_path):
    save_updates(tmp_path, 1, 2)
    flip(tmp_path / "last.ckpt")
    flip(tmp_path / "previous.ckpt", 0)
    with pytest.raises(CheckpointError) as caught:
        load_latest(tmp_path)
    assert "last.ckpt is damaged: tensor 'w'" in str(caught.value)
    assert "previous.ckpt is no checkpoint" in str(caught.value)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="has no checkpoint to go on from"):
        load_latest(tmp_path)
