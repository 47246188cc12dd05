"""Templates of the folder ``reports``, filled in."""

from __future__ import annotations

from pathlib import Path

import jinja2

from deidlib import distribution


def render(template: str, **values) -> str:
    """Fill a template of the ``reports`` folder; HTML is escaped, and an unknown value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.j2", "html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plural"] = lambda n, one, many=None: f"{n:,} {one if n == 1 else many or one + 's'}"
    return environment.get_template(template).render(**values)


def template_folder() -> Path:
    """Folder in which templates, styles and scripts of pages lie."""
    return distribution.folder() / "reports"
