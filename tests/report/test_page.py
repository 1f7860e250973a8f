"""Is the page of a diagnosis whole, safe, the same each time, and readable by everyone?"""

import json
import re
from html.parser import HTMLParser

import pytest

from report.records_for_tests import HOSTILE, empty, healthy, hostile, vanishing
from throughtime.records.diagnosis import diagnosis_from
from throughtime.report.page import diagnosis_page

RECORDS = {"healthy": healthy, "vanishing": vanishing, "empty": empty, "hostile": hostile}
MOST_BYTES = 3_000_000
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Read(HTMLParser):
    """A page taken apart: texts, attributes, ids, and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.links, self.pictures, self.texts = [], [], [], [], []
        self.tags, self.scripts, self.wrong = [], {}, []
        self.feed(page)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [v for k, v in attrs if k in {"href", "src", "xlink:href", "action", "data"}]
        self.wrong += [k for k, _ in attrs if k.startswith("on")]
        if tag == "svg":
            self.pictures.append(values)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts[values.get("id", "code")] = ""
            self.script = values.get("id", "code")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[self.script] += data
        elif "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def pages():
    found = {name: diagnosis_page(make()) for name, make in RECORDS.items()}
    return found | {"beside": diagnosis_page(vanishing(), [healthy(), hostile(), empty()])}


NAMES = [*RECORDS, "beside"]


@pytest.mark.parametrize("name", NAMES)
def test_every_element_is_closed_and_every_id_is_its_own(pages, name):
    read = Read(pages[name])
    assert read.wrong == []
    assert len(read.ids) == len(set(read.ids))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_from_anywhere(pages, name):
    page = pages[name]
    assert all(link.startswith(("#", "data:")) for link in Read(page).links)
    assert not re.search(r"https?:|//[a-z]+\.|@import|@font-face|fetch\(|XMLHttp", page)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_a_name_for_those_who_do_not_see_it(pages, name):
    for picture in Read(pages[name]).pictures:
        assert picture["role"] == "img"
        assert len(picture["aria-label"]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_what_pictures_refer_to_is_on_the_page(pages, name):
    read = Read(pages[name])
    wanted = {link[1:] for link in read.links if link.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", pages[name]))
    assert wanted <= set(read.ids)


def test_no_name_becomes_markup(pages):
    read = Read(pages["hostile"])
    assert read.tags.count("script") == Read(pages["healthy"]).tags.count("script")
    assert HOSTILE in read.text
    assert "alert" not in read.scripts["code"]


@pytest.mark.parametrize("name", [*RECORDS])
def test_the_record_is_on_the_page(pages, name):
    record = RECORDS[name]()
    found = json.loads(Read(pages[name]).scripts["record"])
    assert diagnosis_from(found).title == record.title
    assert [f["sentence"] for f in found["findings"]] == [f.sentence for f in record.findings]
    for got, want in zip(found["layers"], record.as_json()["layers"], strict=True):
        assert all(
            g is w is None or g == pytest.approx(w, rel=1e-5)
            for g, w in zip(got["error_by_lag"], want["error_by_lag"], strict=True)
        )


def test_the_same_record_is_the_same_bytes():
    assert diagnosis_page(healthy(60)) == diagnosis_page(healthy(60))


def test_four_layers_of_a_thousand_steps_weigh_less_than_three_megabytes():
    assert len(diagnosis_page(healthy(1000, 4)).encode()) < MOST_BYTES
