"""Is a task found by its name, and a wrong one refused with what there is?"""

import numpy as np
import pytest

from throughtime.errors import ConfigError, DataError
from throughtime.tasks import TASKS, find_task
from throughtime.tasks.adding import AddingTCN
from throughtime.tasks.generated import GeneratedTask

NAMES = [
    *("recall", "adding", "adding-tcn", "adding-pascanu", "multiplication"),
    *("temporal-order", "temporal-order-3", "random-permutation"),
    *("memorisation", "copy", "copy-tcn", "copy-variable"),
    *("warp-uniform", "warp-variable", "pad-uniform", "pad-variable", "programs"),
    *("pixels", "pixels-permuted", "pooled", "pooled-permuted", "rows", "rows-permuted", "music"),
]
FROM_FILES = [name for name, kind in TASKS.items() if not issubclass(kind, GeneratedTask)]


def test_there_are_these_tasks_in_this_order():
    assert list(TASKS) == NAMES
    assert NAMES[17:] == FROM_FILES
    assert all(kind.name == name for name, kind in TASKS.items())
    assert len({kind.what for kind in TASKS.values()}) == len(TASKS)


def test_a_task_has_the_length_asked_for_or_its_own():
    assert find_task("adding-tcn") == AddingTCN(200)
    assert find_task("adding-tcn", 31) == AddingTCN(31)
    assert type(find_task("adding-tcn")) is AddingTCN


@pytest.mark.parametrize(
    ("name", "hint"),
    [("addin", "adding"), ("temporal", "temporal-order"), ("pixel", "pixels"), ("Copy", "copy")],
)
def test_an_unknown_name_is_refused_with_the_closest(name, hint):
    message = rf"there is no task {name}; expected one of recall, .*music. Did you mean {hint}\?"
    with pytest.raises(ConfigError, match=message):
        find_task(name)


def test_a_name_like_no_other_is_refused_with_all():
    with pytest.raises(ConfigError, match=r"no task zzz; expected one of .*Give one of these\.$"):
        find_task("zzz")


def test_a_generated_task_reads_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"copy is generated, but a file came .*Leave that out"):
        find_task("copy", data=tmp_path / "a.npz")


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_task_of_a_file_needs_one(name, tmp_path):
    with pytest.raises(ConfigError, match=f"task {name} came without a file; expected the path"):
        find_task(name)
    with pytest.raises(DataError, match="there is no file"):
        find_task(name, data=tmp_path / "a.npz")


def test_images_decide_their_length_and_music_does_not(tmp_path):
    images = {f"x_{part}": np.zeros((20, 4, 6), np.uint8) for part in ("train", "test")}
    classes = {f"y_{part}": np.arange(20) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "images.npz", **images, **classes)
    assert find_task("rows", 4, tmp_path / "images.npz").length == 4
    with pytest.raises(ConfigError, match=r"rows came with length 9, but its images make 4 steps"):
        find_task("rows", 9, tmp_path / "images.npz")
    path = str(tmp_path / "music.npz")
    rolls = {f"{p}_roll": np.ones((4, 3), np.uint8) for p in ("train", "valid", "test")}
    np.savez(path, **rolls, **{f"{p}_len": np.array([4]) for p in ("train", "valid", "test")})
    assert find_task("music", 9, path).length == 9
    assert find_task("music", data=path).length == 200


def test_a_length_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="temporal-order is 9; expected 10 at least"):
        find_task("temporal-order", 9)
