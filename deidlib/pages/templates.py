"""Templates of the folder ``reports``, filled in."""

from __future__ import annotations

from pathlib import Path

import jinja2


def render(template: str, **values) -> str:
    """Fill a template of the ``reports`` folder; HTML is escaped, and an unknown value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folders()),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.j2", "html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plural"] = lambda n, one, many=None: f"{n:,} {one if n == 1 else many or one + 's'}"
    return environment.get_template(template).render(**values)


def template_folders() -> list[Path]:
    """Folders in which templates lie, of an installed package and of a checkout."""
    package = Path(__file__).resolve().parents[1]
    return [package / "reports", package.parent / "reports"]
