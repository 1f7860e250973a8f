"""How do we refuse?

    ThroughtimeError
    ├── DeclarationError (ValueError)            a cell's equations cannot be a cell
    ├── ShapeError       (ValueError, RuntimeError)  a tensor or a size does not fit
    ├── DtypeError       (TypeError, ValueError)     a dtype or a type does not fit
    ├── DeviceError      (ValueError, RuntimeError)  tensors lie on different devices
    ├── EngineError      (RuntimeError)          the engine asked for cannot do the job
    ├── ConfigError      (ValueError)            an option or a command's argument is wrong
    ├── DataError        (ValueError)            a data file cannot be used
    ├── CheckpointError  (RuntimeError)          a file of a run is damaged or does not fit
    └── RunBusyError     (RuntimeError)          another process writes to this run folder

Every message says what came, what was expected and what to do. The second base is the
exception that `torch.nn` or Python raises for the same mistake, so existing handlers work.
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeclarationError",
    "DeviceError",
    "DtypeError",
    "EngineError",
    "RunBusyError",
    "ShapeError",
    "ThroughtimeError",
]


class ThroughtimeError(Exception):
    """Any refusal of throughtime; the message is meant for the user."""


class DeclarationError(ThroughtimeError, ValueError):
    """A cell's equations cannot be a cell."""


class ShapeError(ThroughtimeError, ValueError, RuntimeError):
    """A tensor or a size does not fit."""


class DtypeError(ThroughtimeError, TypeError, ValueError):
    """A dtype or a Python type does not fit."""


class DeviceError(ThroughtimeError, ValueError, RuntimeError):
    """Tensors of one call lie on different devices."""


class EngineError(ThroughtimeError, RuntimeError):
    """The engine asked for cannot do the job; no other one is taken."""


class ConfigError(ThroughtimeError, ValueError):
    """An option or a command's argument is wrong."""


class DataError(ThroughtimeError, ValueError):
    """A data file cannot be used."""


class CheckpointError(ThroughtimeError, RuntimeError):
    """A file of a run is damaged, or does not fit this program."""


class RunBusyError(ThroughtimeError, RuntimeError):
    """Another process writes to this run folder."""
