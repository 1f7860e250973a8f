"""Can a diagnosis be looked at everywhere: printed, on a terminal, in a notebook, as a file?"""

import html
import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from report.records_for_tests import healthy, vanishing
from throughtime.diagnosis.diagnosis import Diagnosis


def never(model, training=None):
    raise AssertionError("looking measures nothing")


@pytest.fixture(params=[healthy, vanishing])
def diagnosis(request):
    return Diagnosis(request.param(), never)


def test_printed_it_is_plain_and_fits_80_columns(diagnosis):
    text = str(diagnosis)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert diagnosis.findings[0].sentence in " ".join(text.split())
    assert repr(diagnosis).startswith(f"<Diagnosis of {diagnosis.record.title}: ")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_rich_prints_it_in_colour_on_a_terminal_alone(diagnosis, is_terminal):
    console = Console(file=io.StringIO(), width=120, force_terminal=is_terminal, _environ={})
    console.print(diagnosis)
    shown = console.file.getvalue()
    assert ("\x1b[" in shown) is is_terminal
    assert diagnosis.record.layers[0].name in shown


def test_in_a_notebook_it_is_a_frame_of_its_own(diagnosis):
    """A style for `body` would be that of the whole notebook."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    text = diagnosis._repr_html_()
    Reader().feed(text)
    assert [tag for tag, _ in found] == ["iframe"]
    assert found[0][1]["srcdoc"] == diagnosis.to_html()
    assert html.unescape(text).count("<!DOCTYPE html>") == 1


def test_a_file_holds_the_page_with_others_over_it(diagnosis, tmp_path):
    page = diagnosis.to_html(tmp_path / "page.html", [Diagnosis(vanishing(), never)])
    assert (tmp_path / "page.html").read_text() == page
    assert "Beside each other" in page
    assert "Beside each other" not in diagnosis.to_html(str(tmp_path / "page.html"))
