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
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name}() failed: {_told(error)}.") from error
    if not isinstance(made, tuple | list) or len(made) not in {3, 4}:
        size = f" of {len(made)}" if isinstance(made, tuple | list) else ""
        raise ConfigError(f"{name}() returned a {type(made).__name__}{size}; expected {_FORM}.")
    return tuple(made)


def _found(name: str) -> Callable[[], Any]:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (module_name + "." + attribute).split(".")):
        path = module_name.removesuffix(".py").strip("./").replace("/", ".")
        meant = f"{path}:{attribute or 'function'}"
        hint = f", such as {meant}" if module_name.endswith(".py") else ""
        raise ConfigError(f"{name} names no function. Expected {_FORM}{hint}.")
    function = _imported(name, module_name)
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise ConfigError(f"{name}: {module_name} has no function {attribute!r}. Expected {_FORM}.")
    return function


def _imported(name: str, module_name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise ConfigError(
                f"{name}: there is no module {missing!r}. Expected {_FORM}."
            ) from error
        raise ConfigError(f"{name}: importing {module_name} failed: {_told(error)}.") from error


def _told(error: BaseException) -> str:
    """What happened, in one line."""
    if isinstance(error, SystemExit):
        return (
            f"it ended the process with {error.code!r}; put what a script does under "
            'if __name__ == "__main__"'
        )
    reason = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {reason}"
