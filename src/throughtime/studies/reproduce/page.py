"""Where do the page of all tables and its picture come from, and where do they go?"""

from collections.abc import Sequence
from pathlib import Path

from throughtime.errors import ConfigError
from throughtime.records import read_results
from throughtime.records.atomic import replace_file
from throughtime.report.reproduction import reaches, reaches_svg
from throughtime.report.reproduction_page import reproduction_page

__all__ = ["draw_page"]


def draw_page(page: Path, names: Sequence[str], results: Path) -> Path:
    """Draw the tables whose results lie in a folder.

    Args:
        page: The Markdown file to write; its picture goes into the folder pictures beside it.
        names: Of all tables, in their order.
        results: The folder.

    Returns:
        Where the picture is.

    Raises:
        ConfigError: The folder holds no result, or matplotlib is missing.
        DataError: A result cannot be read.
    """
    there = [name for name in names if (results / f"{name}.json").exists()]
    if not there:
        raise ConfigError(
            f"{results} holds no result of {', '.join(names)}. Run one first: "
            f"throughtime reproduce {names[0]}."
        )
    found = [read_results(results / f"{name}.json") for name in there]
    missing = [name for name in names if name not in there]
    picture = page.parent / "pictures" / f"{page.stem}-horizons.svg"
    text = reproduction_page(found, missing, picture.relative_to(page.parent).as_posix())
    picture.parent.mkdir(parents=True, exist_ok=True)
    if known := reaches(found):
        try:
            replace_file(picture, [reaches_svg(known)])
        except ModuleNotFoundError as error:
            raise ConfigError(
                "the picture needs matplotlib. Give: pip install 'throughtime[report]'."
            ) from error
    replace_file(page, [text.encode()])
    return picture
