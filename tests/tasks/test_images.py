"""Are images read in the promised order, all of them, and never one of a part in another?"""

import math
from pathlib import Path

import numpy as np
import pytest

from tasks.judging import perfect, score
from throughtime.errors import DataError
from throughtime.tasks import TASKS, find_task
from throughtime.tasks.images import Pixels, PixelsPermuted, Pooled, PooledPermuted, Rows

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist" / "mnist.npz"
NAMES = [name for name, kind in TASKS.items() if issubclass(kind, Pixels)]
N_TRAIN, N_TEST, ROWS, COLUMNS, CLASSES = 43, 17, 4, 6, 3


def arrays(**others):
    rng = np.random.default_rng(0)
    made = {
        "x_train": rng.integers(0, 256, (N_TRAIN, ROWS, COLUMNS), np.uint8),
        "y_train": rng.integers(0, CLASSES, N_TRAIN),
        "x_test": rng.integers(0, 256, (N_TEST, ROWS, COLUMNS), np.uint8),
        "y_test": rng.integers(0, CLASSES, N_TEST),
    }
    return {name: array for name, array in (made | others).items() if array is not None}


def write(folder, **others):
    np.savez(folder / "images.npz", **arrays(**others))
    return folder / "images.npz"


def everything(task, part):
    batches = list(task.held_out(part))
    inputs = np.concatenate([b.inputs for b in batches], axis=1)
    return inputs, np.concatenate([b.targets[-1] for b in batches])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("pixels", (24, 1)), ("pixels-permuted", (24, 1))),
        *(("pooled", (6, 1)), ("pooled-permuted", (6, 1))),
        *(("rows", (4, 6)), ("rows-permuted", (4, 6))),
    ],
)
def test_sizes_and_questions(tmp_path, name, shape):
    task = find_task(name, data=write(tmp_path))
    assert (task.length, task.input_size, task.output_size) == (*shape, CLASSES)
    batch = task.batch(np.random.default_rng(0), 5)
    assert batch.inputs.shape == (shape[0], 5, shape[1])
    assert batch.inputs.dtype == np.float32
    assert batch.targets.shape == (shape[0], 5)
    assert batch.targets.dtype == np.int64
    assert batch.is_counted.sum(0).tolist() == [1] * 5
    assert batch.is_counted[-1].all()
    assert batch.lengths.tolist() == [shape[0]] * 5
    assert not task.is_wrong(perfect(task, batch), batch).any()


def test_every_view_is_of_the_same_pixels(tmp_path):
    path, pixels = write(tmp_path), arrays()["x_test"] / np.float32(255)
    inputs, classes = everything(Pixels(path), "test")
    np.testing.assert_array_equal(inputs[..., 0].T, pixels.reshape(N_TEST, -1))
    np.testing.assert_array_equal(classes, arrays()["y_test"])
    rows = everything(Rows(path), "test")[0]
    np.testing.assert_array_equal(rows.swapaxes(0, 1), pixels)
    pooled = everything(Pooled(path), "test")[0]
    for r in range(ROWS // 2):
        for c in range(COLUMNS // 2):
            block = pixels[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            np.testing.assert_allclose(
                pooled[r * COLUMNS // 2 + c, :, 0], block.mean((1, 2)), rtol=1e-6
            )


@pytest.mark.parametrize(
    ("plain", "permuted"), [(Pixels, PixelsPermuted), (Pooled, PooledPermuted)]
)
def test_the_permutation_is_the_same_for_all_images_and_runs(tmp_path, plain, permuted):
    path = write(tmp_path)
    before, after = (everything(kind(path), "test")[0][..., 0] for kind in (plain, permuted))
    order = [int(np.flatnonzero((before == step).all(1))[0]) for step in after]
    assert sorted(order) == list(range(len(before)))
    assert order == np.random.default_rng(0).permutation(len(before)).tolist() != sorted(order)
    rows = everything(find_task("rows-permuted", data=path), "test")[0]
    if plain is Pixels:
        np.testing.assert_array_equal(rows.swapaxes(0, 1).reshape(N_TEST, -1), after.T)


def test_the_last_tenth_is_for_validation_alone(tmp_path):
    task, made = Pixels(write(tmp_path)), arrays()
    inputs, classes = everything(task, "valid")
    np.testing.assert_array_equal(inputs[..., 0].T * 255, made["x_train"][-5:].reshape(5, -1))
    np.testing.assert_array_equal(classes, made["y_train"][-5:])
    drawn = task.batch(np.random.default_rng(0), 2_000)
    found = {tuple(image) for image in np.rint(drawn.inputs[..., 0].T * 255).astype(int)}
    assert found == {tuple(image) for image in made["x_train"][:-5].reshape(38, -1).astype(int)}


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_which_images_are_learnt(tmp_path, name):
    task = find_task(name, data=write(tmp_path))
    first, same, other = (task.batch(np.random.default_rng([7, u]), 9) for u in (0, 0, 1))
    np.testing.assert_array_equal(first.inputs, same.inputs)
    assert not np.array_equal(first.inputs, other.inputs)


def test_the_baseline_is_the_share_of_each_class(tmp_path):
    task, made = Pixels(write(tmp_path)), arrays()
    counts = np.bincount(made["y_train"][:-5], minlength=CLASSES) + 1
    outputs = np.log(counts / counts.sum())
    batch = next(task.held_out("test"))
    assert score(task, np.broadcast_to(outputs, (*batch.targets.shape, 3)), batch) == pytest.approx(
        task.baseline(), rel=1e-12
    )
    assert not task.is_solved(task.baseline(), 0.0)
    assert task.is_solved(0.099 * task.baseline(), 0.5)
    assert not task.is_solved(0.101 * task.baseline(), 0.0)


def test_half_of_the_ink_is_further_back_than_the_lag(tmp_path):
    ink = np.zeros((N_TRAIN, ROWS, COLUMNS), np.uint8)
    ink[:, 0, 3], ink[:, 1, 1], ink[:, 3, 5] = 40, 70, 90  # 200: half is read at step 7 of 0 ... 23
    assert Pixels(write(tmp_path, x_train=ink)).needs_lag == 23 - 7
    assert Rows(write(tmp_path, x_train=ink)).needs_lag == 3 - 1


def test_memory_is_bounded(tmp_path):
    many = np.zeros((9_000, ROWS, COLUMNS), np.uint8)
    task = Pixels(write(tmp_path, x_test=many, y_test=np.zeros(9_000, np.int64)))
    sizes = [batch.is_counted.size for batch in task.held_out("test")]
    assert max(sizes) <= 100_000
    assert sum(sizes) == 9_000 * 24


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"y_test": None}, "it has x_train, y_train, x_test, but no y_test. Give an .npz with x_t"),
        ({"x_test": np.zeros((17, 24), np.uint8)}, "x_test is uint8 with 2 dimensions; expected"),
        ({"x_train": np.zeros((43, 4, 6))}, "x_train is float64 with 3 dimensions; expected whole"),
        ({"x_train": np.zeros((43, 4, 6), int)}, "x_train is int64 .*; expected uint8"),
        ({"y_train": np.zeros(9, int)}, r"x_train is uint8 \[43, 4, 6\] with 9 classes in y_train"),
        (
            {"y_test": np.arange(17) - 1},
            "y_test has the classes of 17 images, from -1 on; expected",
        ),
        ({"x_test": np.zeros((17, 6, 6), np.uint8)}, "images of 4 by 6 pixels, and others to test"),
        ({"y_test": np.array([{}] * 17)}, "Object arrays cannot be loaded"),
    ],
)
def test_files_that_are_not_what_is_expected_are_refused(tmp_path, others, message):
    with pytest.raises(DataError, match=message):
        Pixels(write(tmp_path, **others))


def test_odd_images_cannot_be_pooled(tmp_path):
    odd = {f"x_{p}": np.ones((n, 4, 5), np.uint8) for p, n in (("train", 43), ("test", 17))}
    path = write(tmp_path, **odd)
    assert Pixels(path).length == 20
    with pytest.raises(DataError, match="4 by 5 pixels; the task pooled expects even numbers"):
        Pooled(path)


def test_mnist_has_ten_classes_nearly_as_often():
    if not MNIST.exists():
        pytest.skip("needs mnist.npz, which is not part of the repository")
    task = Pixels(MNIST)
    assert (task.length, task.output_size) == (784, 10)
    assert task.baseline() == pytest.approx(math.log(10), abs=0.002)
    assert 300 < task.needs_lag < 450
    assert sum(len(b.lengths) for b in Rows(MNIST).held_out("test")) == 10_000
