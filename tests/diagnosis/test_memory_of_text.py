"""Is the memory of a text that of brute force, and is the text as it was?"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime.diagnosis.memory_of_text import memory_of_text
from throughtime.models import LanguageModel
from throughtime.tasks import load_corpus
from tolerances import TOLERANCE, error_to_largest

TEXT = "a bad cab\n\tdad  fed\nbead\n" * 12


def corpus_of(tmp_path, unit):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return load_corpus(path, unit)


def model_of(corpus):
    torch.manual_seed(0)
    return LanguageModel(tt.cells.lstm, corpus.vocabulary.size, 5, embedding_size=4).double().eval()


def brute_force(model, ids, begin):
    """|| d log p(s_{t+1}) / d e_k ||, a forward pass of its own for each t."""
    found = []
    for t in range(len(ids) - 1):
        first = begin if t >= begin else 0
        read = model.embedding(torch.as_tensor(ids[first : t + 1])).detach().requires_grad_()
        hook = model.embedding.register_forward_hook(lambda *_, read=read: read.unsqueeze(1))
        tokens, wanted = ids[first : t + 1, None], ids[first + 1 : t + 2, None]
        nll, _ = model.nll_nats(torch.as_tensor(tokens), torch.as_tensor(wanted))
        hook.remove()
        (gradient,) = torch.autograd.grad(nll[-1, 0], read)
        found.append([0.0] * first + gradient.norm(dim=-1).tolist())
    return found


@pytest.mark.parametrize("begin", [0, 3])
def test_it_is_that_of_brute_force_up_to_the_start_of_a_document(tmp_path, begin):
    corpus = corpus_of(tmp_path, "char")
    corpus = replace(corpus, valid_starts=np.array([0, begin] if begin else [0]))
    model = model_of(corpus)
    found = memory_of_text(model, corpus, 9)
    wanted = brute_force(model, np.asarray(corpus.valid[:10], dtype=np.int64), begin)
    assert found["positions"] == list(range(1, 10))
    bound = TOLERANCE["flow", torch.float64].bound
    for got, want in zip(found["connectivity"], wanted, strict=True):
        assert len(got) == len(want)
        assert error_to_largest(torch.tensor(got), torch.tensor(want)) <= bound
        assert any(got)


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_the_text_reads_as_it_is_written(tmp_path, unit):
    corpus = corpus_of(tmp_path, unit)
    found = memory_of_text(model_of(corpus), corpus, 12)
    ids = [int(i) for i in corpus.valid[:13]]
    assert "".join(found["symbols"]) == corpus.vocabulary.decode(ids)
    assert len(found["symbols"]) == len(ids)
