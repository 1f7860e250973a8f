"""How is `package.module:function` turned into what is to be diagnosed?"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from throughtime.errors import ConfigError, ThroughtimeError

__all__ = ["looks_like_callable", "made_by"]

_FORM = (
    "package.module:function, which returns (model, batch, loss) or (model, batch, loss, training)"
)


def looks_like_callable(text: str) -> bool:
    """Whether a name is of a function, not of a folder."""
    return ":" in text and not Path(text).exists()


def made_by(name: str) -> tuple[Any, ...]:
    """What the function of that name returns: model, batch, loss and perhaps training.

    Args:
        name: package.module:function; the working folder is searched too, as `python -m` does.

    Raises:
        ConfigError: There is no such function, it failed, or it returned something else.
    """
    function = _found(name)
    try:
        made = function()
    except ThroughtimeError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}() failed: {type(error).__name__}: {error}.") from error
    if not isinstance(made, tuple | list) or len(made) not in {3, 4}:
        size = f" of {len(made)}" if isinstance(made, tuple | list) else ""
        raise ConfigError(f"{name}() returned a {type(made).__name__}{size}; expected {_FORM}.")
    return tuple(made)


def _found(name: str) -> Callable[[], Any]:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{name}: there is no module {error.name!r}. Expected {_FORM}."
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{name}: importing {module_name} failed: {type(error).__name__}: {error}."
        ) from error
    function = module
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise ConfigError(f"{name}: {module_name} has no function {attribute!r}. Expected {_FORM}.")
    return function
