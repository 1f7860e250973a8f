"""How is a text learnt? In windows of B streams, the state carried from one to the next."""

import time

import numpy as np
from torch import Tensor, nn

from throughtime.models import LanguageModel
from throughtime.tasks import Corpus, streams
from throughtime.tasks.task import Part
from throughtime.train.batch import as_tensors
from throughtime.train.config import TrainConfig
from throughtime.train.evaluate import mean_nll_nats
from throughtime.train.generate import generate
from throughtime.train.lesson import Hx, Lesson, Score
from throughtime.train.score import baseline_scores, metric_name, metric_value, symbols_per_char
from throughtime.train.setup import make_language_model

__all__ = ["SAMPLE_PROMPT", "SAMPLE_TEMPERATURE", "TextLesson"]

SAMPLE_PROMPT = "\n"
SAMPLE_TEMPERATURE = 0.8

# As many symbols are scored to find what a validation takes.
_PROBED_SYMBOLS = 2_000

_PLURALS = {"char": "chars", "byte": "bytes", "word": "words", "bpe": "tokens"}


class TextLesson(Lesson):
    """Predict the next symbol of a text.

    Args:
        corpus: The text.
        config: Options of the run.
    """

    has_test_part = False
    loss_name = "loss_nats"

    def __init__(self, corpus: Corpus, config: TrainConfig) -> None:
        self.corpus, self.config = corpus, config
        options = config.run
        self.windows = streams(
            corpus.train, corpus.train_starts, options.batch_size, options.window_steps
        )
        self.name, self.sha256 = corpus.name, corpus.sha256
        self.metric = metric_name(config.data.unit)
        self.steps = _PLURALS[config.data.unit]
        self.steps_per_update = options.batch_size * options.window_steps
        self.steps_per_pass = len(corpus.train)

    def new_model(self) -> nn.Module:
        """A language model with weights drawn from torch's generator."""
        return make_language_model(
            self.config.model, self.config.data.unit, self.corpus.vocabulary.size
        )

    def loss(self, model: nn.Module, hx: Hx, update: int) -> tuple[Tensor, Hx]:
        """The mean loss of window `update`; the text starts anew after its last one."""
        assert isinstance(model, LanguageModel), "made by `new_model`"
        window = self.windows.window(update % self.windows.n_windows)
        inputs, targets, reset = as_tensors(window, model.embedding.weight.device)
        nll_nats, hx = model.nll_nats(inputs, targets, hx, reset=reset)
        return nll_nats.mean(), hx

    def score(self, model: nn.Module, part: Part) -> Score:
        """The loss on the validation text, and a sample."""
        assert isinstance(model, LanguageModel), "made by `new_model`"
        assert part == "valid", "a text has no other part"
        loss_nats = mean_nll_nats(model, self.corpus.valid, self.corpus.valid_starts)
        sample = generate(
            model,
            self.corpus.vocabulary,
            SAMPLE_PROMPT,
            self.config.run.sample,
            seed=self.config.run.seed,
            temperature=SAMPLE_TEMPERATURE,
        )
        return Score(loss_nats, self.metric_of(loss_nats), sample)

    def score_s(self, model: nn.Module, part: Part) -> float:
        """Seconds that a scoring takes, guessed from the first 2,000 symbols."""
        assert isinstance(model, LanguageModel), "made by `new_model`"
        piece = self.corpus.valid[:_PROBED_SYMBOLS]
        begun_s = time.perf_counter()
        mean_nll_nats(model, piece, np.zeros(1, np.int64))
        return (time.perf_counter() - begun_s) * len(self.corpus.valid) / len(piece)

    def engine(self, model: nn.Module) -> str:
        """Which engine runs the first window."""
        assert isinstance(model, LanguageModel), "made by `new_model`"
        inputs, _, reset = as_tensors(self.windows.window(0), model.embedding.weight.device)
        return model.recurrent.explain(model.embedding(inputs), reset=reset)

    def baselines(self) -> dict[str, float]:
        """Uniform, unigram, n-gram and packer on the validation text."""
        return baseline_scores(self.corpus)

    def facts(self) -> list[tuple[str, str]]:
        """The text, its size and its split."""
        corpus = self.corpus
        parts = f"train {len(corpus.train):,} {self.steps}, valid {len(corpus.valid):,}"
        return [
            ("text", f"{corpus.name}, {corpus.size_bytes:,} bytes, sha256 {corpus.sha256[:12]}"),
            ("", f"{parts}: {corpus.split}"),
        ]

    def meta(self) -> dict[str, object]:
        """The vocabulary."""
        return {"vocabulary": self.corpus.vocabulary.to_dict()}

    def metric_of(self, loss: float) -> float:
        """Bits a character, or perplexity a word."""
        return metric_value(loss, self.config.data.unit, symbols_per_char(self.corpus))
