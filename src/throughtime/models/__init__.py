"""Which heads make a recurrent stack into a model of something?"""

from throughtime.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
