"""Which heads make a recurrent stack into a model of something?"""

from throughtime.models.echo_state import EchoStateNetwork
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.models.language_model import LanguageModel
from throughtime.models.scheduled_sampling import (
    exponential_decay,
    inverse_sigmoid_decay,
    linear_decay,
)
from throughtime.models.sequence import SequenceModel
from throughtime.models.tree import TreeNetwork, balanced, chain

__all__ = [
    "EchoStateNetwork",
    "EncoderDecoder",
    "LanguageModel",
    "SequenceModel",
    "TreeNetwork",
    "balanced",
    "chain",
    "exponential_decay",
    "inverse_sigmoid_decay",
    "linear_decay",
]
