"""How are arrays read from an .npz file, and what is refused?"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import DataError

__all__ = ["read_arrays"]


def read_arrays(path: Path, dimensions: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """The arrays of a file, whole numbers all of them.

    Args:
        path: An .npz file; nothing in it is unpickled.
        dimensions: The names expected, and how many dimensions each has.

    Raises:
        DataError: The file is missing or damaged, or an array is missing or of another kind.
    """
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise DataError(_not_npz(path, dimensions, "it is no whole zip archive"))
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in dimensions if name not in file.files]:
                found = f"it has {', '.join(file.files) or 'no arrays'}, but no {missing[0]}"
                raise DataError(_not_npz(path, dimensions, found))
            arrays = {name: file[name] for name in dimensions}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}. Give the path of an .npz file.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder. Give the path of an .npz file in it.") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(_not_npz(path, dimensions, str(error).split("\n")[0])) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Mend that first.") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "iub" or array.ndim != dimensions[name]:
            found = f"{name} is {array.dtype} with {array.ndim} dimensions; expected whole numbers"
            raise DataError(_not_npz(path, dimensions, f"{found} with {dimensions[name]}"))
    return arrays


def _not_npz(path: Path, dimensions: Mapping[str, int], found: str) -> str:
    return f"{path} is not what is expected: {found}. Give an .npz with {', '.join(dimensions)}."
