"""Does the log of a run survive every end of it, and show every damage?"""

import json
import math
import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from throughtime.errors import CheckpointError, ConfigError
from throughtime.records import MetricsLog, read_metrics
from throughtime.records.metrics import _whole_lines

NAMES = st.text().filter(lambda name: name not in {"schema", "kind", "update"})
NUMBERS = st.floats() | st.integers()
VALUES = st.dictionaries(NAMES, NUMBERS | st.text() | st.lists(NUMBERS | st.sampled_from(["nan"])))


def write_run(log: MetricsLog, first: int, last: int) -> None:
    """The records of updates first to last, of which every third is validated."""
    for update in range(first, last + 1):
        log.append("train", update, {"loss_nats": math.inf if update == 2 else 1.0 / update})
        if update % 3 == 0:
            log.append("valid", update, {"loss_nats": 2.0 / update})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VALUES))
def test_every_record_comes_back(tmp_path, runs):
    path = tmp_path / "metrics.jsonl"
    path.unlink(missing_ok=True)
    with MetricsLog.create(path) as log:
        for update, values in enumerate(runs):
            log.append("train", update, values)
    expected = [
        {"schema": 1, "kind": "train", "update": update, **values}
        for update, values in enumerate(runs)
    ]
    assert repr(read_metrics(path)) == repr(expected)


def test_a_line_is_strict_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog.create(path) as log:
        log.append("valid", 7, {"loss_nats": math.nan, "note": "inf"})
    assert path.read_text() == (
        '{"schema":1,"kind":"valid","update":7,"loss_nats":"nan","note":"=inf"}\n'
    )


def test_records_of_one_kind(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog.create(path) as log:
        write_run(log, 1, 6)
    assert [record["update"] for record in read_metrics(path, "valid")] == [3, 6]
    assert len(read_metrics(path)) == 8


def test_a_run_resumed_from_any_update_and_any_torn_end_equals_an_unbroken_one(tmp_path):
    unbroken, broken = tmp_path / "unbroken.jsonl", tmp_path / "metrics.jsonl"
    with MetricsLog.create(unbroken) as log:
        write_run(log, 1, 7)
    whole = unbroken.read_bytes()
    ends = [end for end, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for length in sorted({*range(0, len(whole), 11), *ends}):
        broken.write_bytes(whole[:length])
        records = read_metrics(broken)
        assert len(records) == whole[:length].count(b"\n")
        last = records[-1]["update"] if records else 0
        # A checkpoint exists only of an update all whose records were written before it.
        for saved in range(max(last - 2, 0), last):
            broken.write_bytes(whole[:length])
            with MetricsLog.resume(broken, saved) as log:
                write_run(log, saved + 1, 7)
            assert broken.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"schema":1,"kind":"train","update":2', "delimiter"),
        (b"", "Expecting value"),
        (b"\0" * 40, "Expecting value"),
        (b"[]", "it has not schema 1"),
        (b'{"schema":2,"kind":"train","update":2}', "it has not schema 1"),
        (b'{"schema":1,"kind":"best","update":2}', "kind is 'best', not one of train, valid"),
        (
            b'{"schema":1,"kind":"train","update":0}',
            "update is 0, not a whole number of at least 1",
        ),
        (b'{"schema":1,"kind":"train","update":2.0}', "update is 2.0"),
        (b'{"schema":1,"kind":"train","update":true}', "update is True"),
        (b'{"schema":1,"kind":"train","update":2,"x":NaN}', "NaN is not a JSON number"),
        (b'{"schema":1,"kind":"train","update":2,"update":2}', "stands twice"),
    ],
)
@pytest.mark.parametrize("after", [b"", b'{"schema":1,"kind":"train","update":3}\n'])
def test_a_damaged_line_is_named(tmp_path, line, reason, after):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"schema":1,"kind":"train","update":1}\n' + line + b"\n" + after)
    for read in (read_metrics, lambda path: MetricsLog.resume(path, 5)):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert f"{path}, line 2 is damaged" in str(caught.value)
        assert reason in str(caught.value)


def test_a_refused_resume_leaves_the_file_and_no_descriptor(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"damaged\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(CheckpointError):
        MetricsLog.resume(path, 5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert path.read_bytes() == b"damaged\n"


@pytest.mark.parametrize(
    ("kind", "update", "values", "reason"),
    [
        ("train", 4, {}, "update is 4, not a whole number of at least 5"),
        ("train", 5.0, {}, "update is 5.0"),
        ("training", 5, {}, "kind is 'training'"),
        ("train", 5, {"kind": "train"}, "not names for values"),
        ("train", 5, {"update": 9}, "not names for values"),
        ("train", 5, {"schema": 1}, "not names for values"),
        ("train", 5, {"norm": 1j}, "['norm'] is a complex"),
    ],
)
def test_no_record_is_written_that_could_not_be_read(tmp_path, kind, update, values, reason):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog.create(path) as log:
        log.append("event", 5, {"event": "started"})
        with pytest.raises(ConfigError) as caught:
            log.append(kind, update, values)
    assert reason in str(caught.value)
    assert len(read_metrics(path)) == 1


def test_a_resumed_log_takes_no_update_before_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.touch()
    with MetricsLog.resume(path, 5) as log, pytest.raises(ConfigError, match="at least 5"):
        log.append("train", 4, {})


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MetricsLog.create(path) as log:
        log.append("train", 1, {"loss_nats": 1.0})
        whole = path.read_bytes()
        # The kernel writes ten bytes more, then refuses, as it does on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, hard))
        try:
            with pytest.raises(CheckpointError, match="File too large"):
                log.append("train", 2, {"loss_nats": 1.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == whole
        log.append("train", 2, {"loss_nats": 1.0})
    assert [record["update"] for record in read_metrics(path)] == [1, 2]


def test_a_log_is_not_overwritten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog.create(path).close()
    with pytest.raises(ConfigError, match="holds a run already"):
        MetricsLog.create(path)


def test_a_missing_log_is_named(tmp_path):
    for read in (read_metrics, lambda path: MetricsLog.resume(path, 0)):
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl: No such file"):
            read(tmp_path / "metrics.jsonl")
    with pytest.raises(ConfigError, match="No such file"):
        MetricsLog.create(tmp_path / "none" / "metrics.jsonl")


def test_sync_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    with MetricsLog.create(tmp_path / "metrics.jsonl") as log:
        monkeypatch.setattr("os.fsync", lambda file: synced.append(os.fstat(file).st_size))
        log.append("train", 1, {})
        log.sync()
    assert synced == [(tmp_path / "metrics.jsonl").stat().st_size]


def test_offsets_are_those_of_the_lines(tmp_path):
    lines = [json.dumps({"schema": 1, "kind": "event", "update": u}).encode() for u in (1, 22)]
    data = b"\n".join(lines) + b"\ntorn"
    ends = [end for end, _ in _whole_lines(data, tmp_path)]
    assert ends == [len(lines[0]) + 1, len(data) - 4]
