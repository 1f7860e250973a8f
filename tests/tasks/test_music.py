"""Is every frame predicted from those before it, and counted once?"""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tasks.judging import perfect, score
from throughtime.errors import ConfigError, DataError
from throughtime.tasks.music import Music
from throughtime.tasks.registry import find_task
from throughtime.train.config import ModelConfig
from throughtime.train.setup import make_sequence_model

MUSIC = Path(__file__).parents[3] / "shared" / "data" / "music"
KEYS = 5
LENGTHS = {"train": [7, 2, 12, 5], "valid": [4, 9], "test": [6, 3, 11]}


def arrays(**others):
    rng = np.random.default_rng(0)
    made = {}
    for part, lengths in LENGTHS.items():
        made[f"{part}_roll"] = (rng.random((sum(lengths), KEYS)) < 0.3).astype(np.uint8)
        made[f"{part}_len"] = np.array(lengths, np.int32)
    return {name: array for name, array in (made | others).items() if array is not None}


def write(folder, **others):
    np.savez(folder / "music.npz", **arrays(**others))
    return folder / "music.npz"


def pieces(part):
    return np.split(arrays()[f"{part}_roll"], np.cumsum(LENGTHS[part])[:-1])


def rows_of(batch):
    """What each row reads and has to answer, at its real steps."""
    for row, steps in enumerate(batch.lengths):
        assert batch.is_counted[:, row].tolist() == [t < steps for t in range(len(batch.inputs))]
        assert not batch.inputs[steps:, row].any()
        yield batch.inputs[:steps, row], batch.targets[:steps, row]


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("is_first_predicted", [False, True])
def test_held_out_pieces_are_read_whole_and_once(tmp_path, part, is_first_predicted):
    task = Music(write(tmp_path), length=3, is_first_predicted=is_first_predicted)
    found = [row for batch in task.held_out(part) for row in rows_of(batch)]
    wanted = sorted(pieces(part), key=len)
    assert len(found) == len(wanted)
    for (read, asked), piece in zip(sorted(found, key=lambda f: len(f[0])), wanted, strict=True):
        if is_first_predicted:
            np.testing.assert_array_equal(asked, piece)
            np.testing.assert_array_equal(read, np.vstack([np.zeros(KEYS), piece[:-1]]))
        else:
            np.testing.assert_array_equal(asked, piece[1:])
            np.testing.assert_array_equal(read, piece[:-1])


@pytest.mark.parametrize("is_first_predicted", [False, True])
def test_training_excerpts_are_of_any_place_and_no_longer_than_told(tmp_path, is_first_predicted):
    # Frames that are all different, so that each can be told by its number.
    numbered = ((np.arange(26)[:, None] >> np.arange(KEYS)) & 1).astype(np.uint8)
    task = Music(write(tmp_path, train_roll=numbered), 4, is_first_predicted=is_first_predicted)
    first = 0 if is_first_predicted else 1
    starts = np.cumsum([0, *LENGTHS["train"]])
    wanted = {
        tuple(range(a + begin, min(a + begin + 4, b)))
        for a, b in pairwise(starts)
        for begin in range(first, max(b - a - 4, first) + 1)
    }
    found = set()
    for read, asked in rows_of(task.batch(np.random.default_rng(0), 900)):
        numbers = asked.astype(int) @ (1 << np.arange(KEYS))
        found.add(tuple(numbers.tolist()))
        before = numbers - 1
        is_opening = np.isin(numbers, starts)
        np.testing.assert_array_equal(read, numbered[before] * ~is_opening[:, None])
    assert found == wanted


def test_all_pieces_are_as_likely(tmp_path):
    lengths = Music(write(tmp_path)).batch(np.random.default_rng(0), 4_000).lengths
    steps, counts = np.unique(lengths, return_counts=True)
    assert steps.tolist() == [1, 4, 6, 11]
    np.testing.assert_allclose(counts / 4_000, 0.25, atol=0.03)


def test_the_generator_decides(tmp_path):
    task = Music(write(tmp_path), 3)
    first, same, other = (task.batch(np.random.default_rng([7, u]), 9) for u in (0, 0, 1))
    assert first.inputs.dtype == first.targets.dtype == np.float32
    np.testing.assert_array_equal(first.targets, same.targets)
    assert not np.array_equal(first.targets, other.targets)


@pytest.mark.parametrize("is_first_predicted", [False, True])
def test_the_baseline_is_of_independent_keys_over_all_real_frames(tmp_path, is_first_predicted):
    task = Music(write(tmp_path), is_first_predicted=is_first_predicted)
    train = arrays()["train_roll"]
    nats, frames = 0.0, 0
    for piece in pieces("test"):
        for frame in piece if is_first_predicted else piece[1:]:
            frames += 1
            for key in range(KEYS):
                p = (train[:, key].sum() + 1) / (len(train) + 2)
                nats -= math.log(p if frame[key] else 1 - p)
    assert task.baseline() == pytest.approx(nats / frames, rel=1e-12)
    # The score as the interface words it: padded frames count nothing.
    p = (train.sum(0) + 1) / (len(train) + 2)
    (batch,) = task.held_out("test")
    outputs = np.broadcast_to(np.log(p / (1 - p)), batch.targets.shape)
    assert score(task, outputs, batch) == pytest.approx(task.baseline(), rel=1e-12)


def test_a_network_starts_from_the_baseline(tmp_path):
    task = Music(write(tmp_path))
    (batch,) = task.held_out("test")
    outputs = np.broadcast_to(task.output_bias(), batch.targets.shape)
    assert outputs.dtype == np.float32
    assert score(task, outputs, batch) == pytest.approx(task.baseline(), rel=1e-6)
    config = ModelConfig(cell="gru", hidden=5)
    model = make_sequence_model(config, task)
    np.testing.assert_array_equal(model.head.bias.detach(), task.output_bias())
    plain = make_sequence_model(config, find_task("adding", 5))
    assert 0 < plain.head.bias.abs() <= 1 / math.sqrt(5)


def test_a_piece_is_wrong_with_a_single_key_and_nothing_is_ever_solved(tmp_path):
    task = Music(write(tmp_path))
    (batch,) = task.held_out("test")
    outputs = perfect(task, batch)
    assert not task.is_wrong(outputs, batch).any()
    outputs[batch.lengths[1] - 1, 1, 4] *= -1
    outputs[batch.lengths[2] :, 2] = 7.0  # past its end
    assert task.is_wrong(outputs, batch).tolist() == [False, True, False]
    assert task.is_solved(0.0, 0.0) is None


def test_memory_is_bounded(tmp_path):
    lengths = np.full(90, 1_000)
    task = Music(write(tmp_path, test_roll=np.ones((90_000, KEYS), np.uint8), test_len=lengths))
    sizes = [batch.is_counted.size for batch in task.held_out("test")]
    assert max(sizes) <= 50_000
    assert sum(sizes) == 90 * 999


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"test_len": None},
            "but no test_len. Give an .npz with train_roll, train_len, valid_roll",
        ),
        (
            {"train_len": np.array([7, 2, 12])},
            "train_len has 3 pieces of 21 frames .* has 26 frames",
        ),
        ({"train_len": np.array([7, 1, 13, 5])}, "in pieces of 2 at least"),
        ({"train_len": np.array([], int)}, "train_len has 0 pieces"),
        ({"valid_roll": np.full((13, KEYS), 2, np.uint8)}, "valid_roll holds 2; expected 0 and 1"),
        ({"valid_roll": np.ones((13, 4), np.uint8)}, "parts with different numbers of keys"),
        ({"valid_roll": np.ones((13, KEYS))}, "valid_roll is float64 with 2 dimensions; expected"),
    ],
)
def test_files_that_are_not_what_is_expected_are_refused(tmp_path, others, message):
    with pytest.raises(DataError, match=message):
        Music(write(tmp_path, **others))


def test_what_is_no_npz_is_refused(tmp_path):
    text, single = tmp_path / "a.npz", tmp_path / "b.npy"
    text.write_text("not packed")
    np.save(single, np.ones(3))
    whole = write(tmp_path).read_bytes()
    damaged = tmp_path / "c.npz"
    damaged.write_bytes(whole[:200] + bytes(300) + whole[500:])
    cut = tmp_path / "d.npz"
    cut.write_bytes(whole[:300])
    for path, message in {
        tmp_path / "nowhere.npz": "there is no file .*nowhere.npz. Give the path",
        tmp_path: "is a folder. Give the path",
        text: "a.npz is not what is expected: it is no whole zip archive. Give an .npz with train",
        single: "it is no whole zip archive. Give an .npz",
        damaged: "c.npz is not what is expected",
        cut: "d.npz is not what is expected",
    }.items():
        with pytest.raises(DataError, match=message):
            Music(path)


def test_an_excerpt_has_two_frames_at_least(tmp_path):
    with pytest.raises(ConfigError, match="music is 1; expected 2 frames at least"):
        Music(write(tmp_path), length=1)


# --- The sets of the literature, where they are at hand ---


@pytest.mark.parametrize(
    ("name", "is_first_predicted", "nats"),
    [("JSB_Chorales", True, 11.061), ("JSB_Chorales", False, 11.093), ("Nottingham", True, 10.25)],
)
def test_independent_keys_on_published_sets(name, is_first_predicted, nats):
    path = MUSIC / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"needs {name}.npz, which is not part of the repository")
    task = Music(path, is_first_predicted=is_first_predicted)
    assert task.input_size == task.output_size == 88
    assert task.baseline() == pytest.approx(nats, abs=0.0005 if nats > 11 else 0.005)
    frames = sum(int(b.is_counted.sum()) for b in task.held_out("test"))
    expected = {"JSB_Chorales": 4725, "Nottingham": 44463}[name]
    assert frames == expected - (0 if is_first_predicted else 77)
