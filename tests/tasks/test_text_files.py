"""Is every byte of a file kept, and is every file that cannot be a text refused?"""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import DataError
from throughtime.tasks import read_text
from throughtime.tasks.files import find_part, list_files

TEXT = "\ufeffone\r\ntwo\rthree\n\n caf\u00e9 \x0c\u2028end"


def find_parts(folder):
    files = list_files(folder)
    return {part: find_part(files, folder, part) for part in ("train", "valid")}


def refused(path, unit="char"):
    with pytest.raises(DataError) as caught:
        read_text(path, unit)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("unit", ["char", "byte", "word", "bpe"])
@pytest.mark.parametrize("name", ["text.txt", "text", "text.md", "text.txt.gz"])
def test_line_ends_and_marks_stay_as_they_are(tmp_path, unit, name):
    data = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read_text(tmp_path / name, unit) == TEXT


@settings(deadline=None, max_examples=50)
@given(data=st.binary(min_size=1))
def test_the_bytes_of_any_file_are_kept(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(data)
    assert read_text(path, "byte").encode("utf-8", "surrogateescape") == data


def test_a_packed_file_in_two_members_is_read_whole(tmp_path):
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert read_text(path, "char") == "one two"


def test_a_missing_file_is_refused(tmp_path):
    assert "there is no file" in refused(tmp_path / "nowhere.txt")


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("abc")
    assert "cannot be read" in refused(tmp_path / "text.txt" / "more.txt")


@pytest.mark.parametrize("unit", ["char", "byte"])
@pytest.mark.parametrize("name", ["empty.txt", "empty.txt.gz"])
def test_an_empty_file_is_refused(tmp_path, unit, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    assert "is empty" in refused(tmp_path / name, unit)


@pytest.mark.parametrize("path", [Path(__file__).parent, Path(os.devnull)])
def test_a_folder_or_a_device_is_no_file(path):
    assert "is not a file" in refused(path)


@pytest.mark.parametrize("unit", ["char", "word", "bpe"])
@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"caf\xe9 au lait", "byte 3 is 0xe9, which is not UTF-8"),
        (b"ab\x00c", "byte 2 is zero"),
        ("ab".encode("utf-16"), "byte 3 is zero"),
        (b"abc\xc3", "byte 3 is 0xc3"),
    ],
)
def test_what_is_not_utf8_is_refused_but_as_bytes(tmp_path, unit, data, found):
    path = tmp_path / "file"
    path.write_bytes(data)
    message = refused(path, unit)
    assert found in message
    assert "--unit byte" in message
    assert len(read_text(path, "byte").encode("utf-8", "surrogateescape")) == len(data)


WHOLE = gzip.compress(TEXT.encode() * 50, mtime=0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TEXT.encode(), id="not packed"),
        pytest.param(WHOLE[:-1], id="last byte missing"),
        pytest.param(WHOLE[: len(WHOLE) // 2], id="half"),
        pytest.param(WHOLE[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(WHOLE[:10] + b"\xff" * 20 + WHOLE[30:], id="damaged inside"),
        pytest.param(WHOLE + b"more", id="more behind it"),
    ],
)
def test_a_damaged_gzip_file_is_refused(tmp_path, data):
    path = tmp_path / "text.txt.gz"
    path.write_bytes(data)
    assert "is not a whole gzip file" in refused(path)


def test_a_file_that_the_system_refuses_is_named(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("abc")

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert "cannot be read: Permission denied" in refused(tmp_path / "text.txt")
    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read: Permission denied"):
        find_parts(tmp_path)


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        ("train.txt", "valid.txt"),
        ("ptb.train.txt.gz", "ptb.valid.txt.gz"),
        ("wiki.train.tokens", "wiki.valid.tokens"),
        ("Training-2", "my_val.txt"),
        ("train", "dev"),
    ],
)
def test_the_parts_of_a_folder_are_found_by_words_of_their_names(tmp_path, train, valid):
    for name in (train, valid, "test.txt", "constraint.txt", "valide.txt", ".train.swp"):
        (tmp_path / name).write_text("abc")
    (tmp_path / "train-folder").mkdir()
    assert find_parts(tmp_path) == {"train": tmp_path / train, "valid": tmp_path / valid}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["valid.txt", "input.txt"], "no files named train; .* among: input.txt, valid.txt"),
        (["train.txt", "test.txt"], "no files named valid; .*such as valid.txt"),
        (["train.txt", "train.txt.gz", "valid.txt"], "2 files named train"),
        ([], "no files named train; .* among: nothing"),
        (list("abcdefghi"), "among: a, b, c, d, e, f, ..."),
    ],
)
def test_a_folder_without_one_file_a_part_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text("abc")
    with pytest.raises(DataError, match=message) as caught:
        find_parts(tmp_path)
    assert "one text file to be split" in str(caught.value)
