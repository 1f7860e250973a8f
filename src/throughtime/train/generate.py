"""What does a model write?"""

import math

import torch
from torch import Tensor

from throughtime.errors import ConfigError
from throughtime.models import LanguageModel
from throughtime.tasks import Vocabulary

__all__ = ["generate"]


@torch.no_grad()
def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> str:
    """Continue `prompt` by `length` symbols, drawn one by one from what the model predicts.

    Symbols are drawn from softmax(log p / temperature); temperature 0 takes the most probable.

    Args:
        model: Language model; left in the mode it had.
        vocabulary: Symbols that the model knows.
        prompt: Text to go on from; an empty one stands for a new line.
        length: Symbols to draw.
        seed: Seed of the draws.
        temperature: Below 1 safer, above 1 wilder.

    Returns:
        The continuation, without the prompt.

    Raises:
        ConfigError: `length` or `temperature` is negative.
    """
    if length < 0 or not 0.0 <= temperature < math.inf:
        raise ConfigError(
            f"length is {length} and temperature {temperature}; expected two numbers, zero or "
            "more. Give, for example, --length 300 --temperature 0.8."
        )
    device = model.embedding.weight.device
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.from_numpy(vocabulary.encode(prompt or "\n")).long().to(device)[:, None]
    was_training = model.training
    model.eval()
    hx, drawn = None, []
    for _ in range(length):
        log_probs, hx = model(tokens, hx)
        symbol = _draw(log_probs[-1, 0].float().cpu(), temperature, generator)
        drawn.append(symbol)
        tokens = torch.tensor([[symbol]], device=device)
    model.train(was_training)
    return vocabulary.decode(drawn)


def _draw(log_probs: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0.0:
        return int(log_probs.argmax())
    # Subtracting the largest before dividing keeps tiny temperatures finite.
    weights = ((log_probs - log_probs.max()) / temperature).exp()
    return int(torch.multinomial(weights, 1, generator=generator))
