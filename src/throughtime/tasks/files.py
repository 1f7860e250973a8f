"""How does a text get from the disk into memory without losing a byte?"""

import gzip
import re
import zlib
from pathlib import Path
from typing import Literal

from throughtime.errors import DataError
from throughtime.tasks.vocabulary import Unit

__all__ = ["find_part", "list_files", "read_text"]

_PARTS = {"train": {"train", "training"}, "valid": {"valid", "validation", "val", "dev"}}
_SHOWN_FILES = 6


def read_text(path: Path, unit: Unit) -> str:
    """The text of a file, its line ends as they are; a name that ends in .gz is unpacked.

    Args:
        path: A file.
        unit: With `byte`, bytes that are no UTF-8 are kept as Python's surrogate escapes;
            with any other unit they are refused.

    Raises:
        DataError: The file is missing, empty, damaged, or no text.
    """
    data = _read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty. Give a file with text in it.")
    if unit == "byte":
        return data.decode("utf-8", "surrogateescape")
    if (nul := data.find(0)) >= 0:
        raise DataError(_not_text(path, f"byte {nul:,} is zero, as in binary files and UTF-16"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start:,} is {data[error.start]:#04x}, which is not UTF-8"
        raise DataError(_not_text(path, found)) from None


def list_files(folder: Path) -> list[Path]:
    """The files of a folder by name, hidden ones left out.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise _unreadable(folder, error) from error


def find_part(files: list[Path], folder: Path, part: Literal["train", "valid"]) -> Path:
    """The one file among those of a folder whose name has the word for a part in it.

    Raises:
        DataError: There is none, or more than one.
    """
    # Whole words, so that ptb.train.txt.gz and train.tokens count, but constraint.txt does not.
    found = [p for p in files if _PARTS[part] & set(re.split("[^a-z]+", p.name.lower()))]
    if len(found) == 1:
        return found[0]
    seen = [p.name for p in found or files]
    shown = ", ".join(seen[:_SHOWN_FILES]) + (", ..." if len(seen) > _SHOWN_FILES else "")
    raise DataError(
        f"the folder {folder} has {len(found) or 'no'} files named {part}; expected one, such as "
        f"{part}.txt, among: {shown or 'nothing'}. Name it so, or give one text file to be split."
    )


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is not a file. Give a text file, or a folder of them.")
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise DataError(f"there is no file {path}. Give the path of a text file.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is not a whole gzip file: {error}. Fetch or pack it again."
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror}. Mend that, or give another path.")


def _not_text(path: Path, found: str) -> str:
    return (
        f"{path} is not a text in UTF-8: {found}. "
        "Give --unit byte to learn its bytes, or convert it to UTF-8 first."
    )
