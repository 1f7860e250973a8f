"""Is the first signal noted, and does the second one end the process?"""

import os
import signal
import threading

import pytest

from throughtime.train.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_meets_the_handler_of_before(number):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest() as stop:
        assert stop.signal_number is None
        assert signal.getsignal(number) not in before
        os.kill(os.getpid(), number)
        assert stop.signal_number == number
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_thread_that_gets_no_signals_may_train_too():
    found = []

    def work():
        with StopRequest() as stop:
            found.append(stop.signal_number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
