"""Do commands run side by side, each on its own, and never outlive their parent's interest?"""

import os
import signal
import sys
import time

import pytest

from throughtime.studies.processes import Command, run_all


def command(folder, name, code):
    return Command(
        name, (sys.executable, "-c", code), folder / f"{name}.out", folder / f"{name}.err"
    )


def nothing(running):
    pass


def test_each_command_has_its_own_status_and_files(tmp_path):
    codes = {
        "good": "print('fine')",
        "bad": "import sys; print('alas', file=sys.stderr); sys.exit(3)",
        "dead": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "late": "print('still')",
    }
    commands = [command(tmp_path, name, code) for name, code in codes.items()]
    ended = {end.place: end.status for end in run_all(commands, 2, nothing)}
    assert ended == {0: 0, 1: 3, 2: -signal.SIGSEGV, 3: 0}
    assert (tmp_path / "good.out").read_text() == "fine\n"
    assert (tmp_path / "bad.err").read_text() == "alas\n"
    assert (tmp_path / "late.out").read_text() == "still\n"


def test_no_more_than_asked_for_run_at_once_and_cores_are_shared(tmp_path):
    code = "import os, time; print(os.environ['OMP_NUM_THREADS']); time.sleep(0.5)"
    commands = [command(tmp_path, str(i), code) for i in range(5)]
    seen = []
    assert len(list(run_all(commands, 2, seen.append))) == 5
    assert max(map(len, seen)) == 2
    threads = int((tmp_path / "0.out").read_text())
    assert threads == max(1, len(os.sched_getaffinity(0)) // 2)


def test_who_leaves_early_stops_what_runs(tmp_path):
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: (print('saved', flush=True), sys.exit(0)))\n"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    slow = [command(tmp_path, str(i), code) for i in range(2)]

    def interrupt(running):
        if all(
            (tmp_path / f"{i}.out").exists() and (tmp_path / f"{i}.out").read_text() for i in (0, 1)
        ):
            raise KeyboardInterrupt

    begun_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(run_all(slow, 2, interrupt))
    assert time.monotonic() - begun_s < 30
    for i in (0, 1):
        pid, said = (tmp_path / f"{i}.out").read_text().split()
        assert said == "saved"
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
