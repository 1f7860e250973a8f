"""Which command says the same as a configuration, with nothing left to defaults?"""

import shlex
from dataclasses import asdict

from throughtime.train.config import OF_TEXTS, TrainConfig

__all__ = ["explicit_command"]


def explicit_command(config: TrainConfig) -> list[str]:
    """Each flag of `throughtime train` with its values, quoted for the shell.

    The budget is left out where it has become a number of updates.
    """
    words = ["throughtime train"]
    if config.data.data is not None:
        words.append(shlex.quote(str(config.data.data)))
    for group, options in asdict(config).items():
        unread = OF_TEXTS.get(group, ()) if config.data.task is not None else ()
        said = {n: v for n, v in options.items() if n not in unread and _is_said(n, v)}
        words += [_flag(name, value) for name, value in said.items()]
    if config.run.updates is None and config.run.budget is not None:
        words.append(_flag("budget", config.run.budget))
    return words


def _is_said(name: str, value: object) -> bool:
    return name not in {"data", "budget"} and not (value is None or value is False or value == ())


def _flag(name: str, value: object) -> str:
    values = value if isinstance(value, tuple) else () if value is True else (value,)
    flag = "--" + name.replace("_", "-")
    return " ".join([flag, *(shlex.quote(str(each)) for each in values)])
