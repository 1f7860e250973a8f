"""Does a real browser show all of a page, at two widths, in the light and in the dark?

Needs a Chromium in the path (Debian: `apt-get install chromium`).
"""

import html
import json
import re
import shutil
import subprocess

import pytest

from report.records_for_tests import healthy, hostile, vanishing
from report.test_comparison import whole_results
from throughtime.report.comparison_page import comparison_page
from throughtime.report.page import diagnosis_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium in the path")

PAGES = {
    "healthy": lambda: diagnosis_page(healthy(60)),
    "hostile": lambda: diagnosis_page(hostile()),
    "beside": lambda: diagnosis_page(vanishing(), [healthy(60, 1)]),
    "comparison": lambda: comparison_page(whole_results()),
}

MEASURE = """
const frame = document.querySelector("iframe");
const page = frame.contentDocument, view = frame.contentWindow;
const parts = [...page.querySelectorAll("body *")];
const kept = parts.filter((e) => !e.parentElement.closest(".scroll, svg"));
const spans = [...page.querySelectorAll(".text span")];
const shades = () => spans.map((s) => s.style.getPropertyValue("--w")).join(" ");
const before = shades();
const over = new view.Event("pointerover", {bubbles: true});
if (spans.length) spans[Math.min(9, spans.length - 1)].dispatchEvent(over);
document.documentElement.setAttribute("data-found", JSON.stringify({
  width: view.innerWidth,
  wide: page.documentElement.scrollWidth,
  out: kept.filter((e) => e.getBoundingClientRect().right > view.innerWidth + 1)
    .map((e) => e.tagName + "." + e.className),
  ground: view.getComputedStyle(page.body).backgroundColor,
  ink: view.getComputedStyle(page.body).color,
  ticks: [...page.querySelectorAll("figure svg text")]
    .map((e) => view.getComputedStyle(e).fill).filter((c) => c === "rgb(0, 0, 0)").length,
  cut: [...page.querySelectorAll("figure svg")].filter((e) => {
    const box = e.getBoundingClientRect();
    return [...e.querySelectorAll("text")].some((t) => {
      const b = t.getBoundingClientRect();
      return b.width
        && (b.right > box.right + 6 || b.left < box.left - 6 || b.bottom > box.bottom + 6);
    });
  }).map((e) => e.getAttribute("aria-label").slice(0, 40)),
  loads: view.performance.getEntriesByType("resource").map((e) => e.name)
    .filter((name) => !name.startsWith("data:")),
  repainted: before !== shades(),
  said: (page.getElementById("text-said") || {}).textContent,
}));
"""


@pytest.fixture(scope="module", params=PAGES)
def page(request):
    return request.param, PAGES[request.param]()


def opened(page, tmp_path, width, theme):
    """What a browser makes of a page in a frame of some width."""
    file = tmp_path / "page.html"
    file.write_text(
        f'<!DOCTYPE html><iframe style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(page)}" onload="setTimeout(() => {{{html.escape(MEASURE)}}}, 100)">'
        "</iframe>"
    )
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000",
        f"--blink-settings=preferredColorScheme={0 if theme == 'dark' else 1}", "--dump-dom",
        file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def luminance(colour):
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_cut_off_and_nothing_unreadable(page, tmp_path, width, theme):
    name, text = page
    found = opened(text, tmp_path, width, theme)
    assert found["width"] == width
    assert found["wide"] <= width
    assert found["out"] == []
    assert found["cut"] == []
    assert found["loads"] == []
    assert (luminance(found["ground"]) < 128) is (theme == "dark")
    assert abs(luminance(found["ground"]) - luminance(found["ink"])) > 150
    assert found["ticks"] == 0, "black text is lost in the dark"
    if name == "healthy":
        assert found["repainted"]
        assert re.match(r"Prediction of symbol 9: the farthest .* lies \d+ back", found["said"])
