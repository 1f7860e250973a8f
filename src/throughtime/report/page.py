"""How does a diagnosis become a page? One file that needs nothing else, drawn from the record."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from throughtime.records.diagnosis import DiagnosisRecord
from throughtime.report import page_words as words
from throughtime.report.page_pictures import layer_panels, model_panels
from throughtime.report.page_text import coloured_text
from throughtime.report.page_unfolded import unfolded

__all__ = ["diagnosis_page", "embedded", "rendered"]

_FIRST = 3  # findings on the first screen
_OPEN = 4  # layers whose pictures are shown without a click


def diagnosis_page(record: DiagnosisRecord, others: Sequence[DiagnosisRecord] = ()) -> str:
    """The page of a diagnosis as HTML: the same text for the same records.

    It loads nothing from anywhere. Without matplotlib it has all but the curves.

    Args:
        record: What the page is about.
        others: What it is compared with: their curves over its own, and a table of differences.
    """
    names = words.names([record, *others])
    beside = dict(zip(names[1:], others, strict=True))
    draws = find_spec("matplotlib") is not None
    layers = [
        {
            "name": layer.name,
            "facts": words.layer_facts(layer),
            "panels": layer_panels(record, place, beside, with_error=place >= _OPEN)
            if draws
            else [],
            "is_open": place < _OPEN,
        }
        for place, layer in enumerate(record.layers)
    ]
    return rendered(
        "diagnosis.html",
        title=names[0] + (f", beside {', '.join(names[1:])}" if others else ""),
        facts=words.facts(record),
        first=[words.finding(f, record) for f in record.findings[:_FIRST]],
        rest=[words.finding(f, record) for f in record.findings[_FIRST:]],
        not_examined=words.not_examined(record),
        unfolded=unfolded(record),
        draws=draws,
        panels=model_panels(record, beside, _OPEN) if draws else [],
        layers=layers,
        text=coloured_text(record.text),
        table=words.layer_table(record),
        gates=words.gate_table(record),
        differences=words.differences(record, beside),
        names=names,
        provenance=words.provenance(record),
        data=embedded(record.as_json()),
    )


def rendered(template: str, **values: Any) -> str:
    """A template with its values; every text among them is escaped."""
    return _templates().get_template(template).render(values)


def embedded(values: Mapping[str, Any]) -> Markup:
    """As JSON that no browser takes for markup, numbers with six digits, logarithms with four."""
    text = json.dumps(_rounded(values, 6), allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _rounded(v, 4 if k == "log10" else digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part, digits) for part in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("throughtime.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
