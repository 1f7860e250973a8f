"""Does a word model prefer the verb in the right number? Of sentences with nouns in between.

    python -m throughtime.studies.reproduce.agreement_probe RUN FOLDER

Of each sentence the words before the verb are read, after an end of sentence, and the right form
must be more probable than the wrong one. Sentences with a word before the verb, or a form, that the
vocabulary lacks are left out.

Source: Linzen, Dupoux & Goldberg 2016; the sentences that Gulordava et al. 2018 kept.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from throughtime.errors import DataError
from throughtime.tasks import Vocabulary
from throughtime.train.saved import Writer, load_writer

__all__ = ["Item", "agreement", "read_items"]

_TEXT, _GOLD = "subj_agr_filtered.text.gz", "subj_agr_filtered.gold.gz"
_END = "<eos>"


class Item(NamedTuple):
    """A sentence up to its verb.

    Attributes:
        words: Those before the verb.
        right: The form that agrees with the subject.
        wrong: The form of the other number.
        attractors: Nouns of the other number between subject and verb.
    """

    words: tuple[str, ...]
    right: str
    wrong: str
    attractors: int


def read_items(folder: Path) -> Iterator[Item]:
    """The items of the two files of a folder: sentences, and a line each for their verbs.

    Raises:
        DataError: A file is missing or they do not fit each other.
    """
    try:
        texts, golds = (
            gzip.decompress((folder / name).read_bytes()).decode("utf-8").splitlines()
            for name in (_TEXT, _GOLD)
        )
        for text, gold in zip(texts, golds, strict=True):
            place, right, wrong, attractors = gold.split("\t")
            words = text.lower().split()[: int(place)]
            yield Item(tuple(words), right.lower(), wrong.lower(), int(attractors))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} does not hold {_TEXT} and {_GOLD} that fit each other: {error}. "
            "Give the folder of both."
        ) from error


def agreement(writer: Writer, items: Iterator[Item]) -> dict[str, float]:
    """The share of items judged right, in per cent: of all, and by attractors; and how many."""
    judged: dict[int, list[bool]] = {}
    known = _known(writer.vocabulary)
    for item in items:
        if known.issuperset((*item.words, item.right, item.wrong)):
            judged.setdefault(item.attractors, []).append(_prefers_right(writer, item))
    if not judged:
        raise DataError("no sentence has known words alone. Train on a text of such words.")
    found = {f"percent_right_{n}": _percent(judged[n]) for n in sorted(judged)}
    every = [one for group in judged.values() for one in group]
    return found | {"percent_right": _percent(every), "items": len(every)}


def _known(vocabulary: Vocabulary) -> frozenset[str]:
    return frozenset(vocabulary.to_dict()["symbols"])


@torch.no_grad()
def _prefers_right(writer: Writer, item: Item) -> bool:
    ids = writer.vocabulary.encode(" ".join((*item.words, item.right, item.wrong)))
    end = int(writer.vocabulary.encode("\n")[0])
    tokens = torch.tensor([end, *ids[:-2].tolist()])[:, None]
    log_probs, _ = writer.model(tokens)
    right, wrong = (int(i) for i in ids[-2:])
    return bool(log_probs[-1, 0, right] > log_probs[-1, 0, wrong])


def _percent(judged: list[bool]) -> float:
    return 100.0 * sum(judged) / len(judged)


if __name__ == "__main__":
    run, folder = map(Path, sys.argv[1:])
    sys.stdout.write(json.dumps(agreement(load_writer(run), read_items(folder))))
