"""Is every damage to a file found, wherever it is?"""

import pytest
import torch

from throughtime.errors import CheckpointError
from throughtime.train.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model

# Each bit alone, all of them, and what makes another white space, which JSON skips, of a blank.
MASKS = [1, 2, 4, 8, 16, 32, 64, 128, 0xFF, *(ord(" ") ^ ord(space) for space in "\t\n\r")]


def small(folder):
    """A checkpoint and a model file with the same small content."""
    torch.manual_seed(0)
    tensors = {
        "a": torch.randn(2, 3),
        "b": torch.randn(2, 3),
        "mask": torch.tensor([True, False, True]),
        "rng": torch.arange(9, dtype=torch.uint8),
    }
    meta = {"update": 12, "loss_nats": 1.25, "cell": "lstm", "best": float("inf")}
    save_checkpoint(folder / "last.ckpt", tensors, meta)
    save_model(folder / "model.safetensors", tensors, meta)
    return [(folder / "last.ckpt", load_checkpoint), (folder / "model.safetensors", load_model)]


def undetected(path, load, damaged):
    """Whether `load` takes `damaged` for a whole file; nothing but a refusal may come of it."""
    path.write_bytes(damaged)
    try:
        load(path)
    except CheckpointError as error:
        return str(path) not in str(error)
    return True


def flips(data, places, masks):
    for place in places:
        for mask in masks:
            yield place, mask, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@pytest.mark.parametrize("which", [0, 1])
def test_a_flip_in_every_17th_byte_is_found(tmp_path, which):
    path, load = small(tmp_path)[which]
    data = path.read_bytes()
    tried = flips(data, range(0, len(data), 17), MASKS)
    assert [(place, mask) for place, mask, flip in tried if undetected(path, load, flip)] == []


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_flip_in_every_byte_is_found(tmp_path, which):
    path, load = small(tmp_path)[which]
    data = path.read_bytes()
    tried = flips(data, range(len(data)), MASKS)
    assert [(place, mask) for place, mask, flip in tried if undetected(path, load, flip)] == []


@pytest.mark.parametrize("which", [0, 1])
def test_every_truncation_and_what_is_appended_is_found(tmp_path, which):
    path, load = small(tmp_path)[which]
    data = path.read_bytes()
    tried = [data[:length] for length in range(len(data))]
    tried += [data + extra for extra in (b"\0", b" ", b"x" * 8, data)]
    assert [len(damaged) for damaged in tried if undetected(path, load, damaged)] == []


def test_the_damaged_tensor_is_named(tmp_path):
    (path, _), _ = small(tmp_path)
    data = path.read_bytes()
    values = bytes(torch.tensor([True, False, True]).view(torch.uint8))
    place = data.rindex(values)
    path.write_bytes(data[:place] + b"\0" + data[place + 1 :])
    with pytest.raises(CheckpointError, match="is damaged: tensor 'mask' is"):
        load_checkpoint(path)
