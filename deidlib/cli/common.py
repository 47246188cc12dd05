"""Shared by the commands: option types, reading and writing of tables, the private folder, error messages."""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from deidlib.errors import DeidlibError, InputError
from deidlib.logs import say
from deidlib.storage.results import PRIVATE, Results, stage_table

if TYPE_CHECKING:
    pass

IDENTITIES = ("per_patient", "per_photo")
DEVICES = ("auto", "cpu", "cuda")
GENERATORS = ("mobilestylegan", "stylegan2")

Table = Annotated[Path, typer.Option(help="Table that an earlier stage wrote.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Table to write (whole or not at all).", show_default=False)]
Options = Annotated[
    str,
    typer.Option(help="The stage's block of the configuration as JSON; what is left out has its default."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[
    int, typer.Option(min=1, help="Photographs in work at a time, each on one core; the result is the same.")
]
Plan = Annotated[Path, typer.Option(help="plan.json of the results' private folder.", show_default=False)]
Part = Annotated[int, typer.Option(min=0, help="Number of this part, from 0.", show_default=False)]
Parts = Annotated[int, typer.Option("--of", min=1, help="Number of parts that share the work.", show_default=False)]
Settings = Annotated[
    str,
    typer.Option("--config", help="The whole configuration as JSON, without cohort and key_file.", show_default=False),
]
GeneratorName = Annotated[str, typer.Option(help="Generator of the registry.")]
Sheet = Annotated[
    Path,
    typer.Option(
        "--sheet",
        envvar="DEIDLIB_SHEET",
        help="The sample sheet; its photographs lie in its folder.",
        show_default=False,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        envvar="DEIDLIB_KEY_FILE",
        help="Secret key file, made by `deidlib keygen`.",
        show_default=False,
    ),
]


class Commands(TyperGroup):
    """A group whose commands report an error in one line and end with exit code 1.

    The library's own errors say what to do and hold nothing identifying. For any other error the place is shown and the
    text withheld, because it may quote a patient's id or path.
    """

    def format_commands(self, ctx, formatter):
        """Write the commands in their groups, each with the whole of its first sentence."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            groups.setdefault(title, []).append((name, command.get_short_help_str(limit=400)))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx):
        """Run the command; exit code 1 when something failed and was reported."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if hasattr(error, "exit_code"):  # wrong usage, which Typer reports
                raise
            name = f"deidlib {ctx.invoked_subcommand or ''}".strip()
            say(f"{name}: {_discarded(error) or _in_words(error)}")
            raise typer.Exit(1) from None


def _discarded(error: Exception) -> str | None:
    """Remove a damaged table of the results, so that the next start of the workflow makes it again."""
    sealed = sys.modules.get("deidlib.storage.sealed")
    if sealed is None or not isinstance(error, sealed.Damaged):
        return None
    path = error.path.absolute()
    private = next((folder for folder in path.parents if folder.name == PRIVATE), None)
    if private is None:
        return None
    try:
        path.unlink(missing_ok=True)
        if path == stage_table(path.parent, "cohort"):  # written beside the plan, which Snakemake knows alone
            Results(private).plan.unlink(missing_ok=True)
    except OSError:
        return None
    return f"{path.relative_to(private)} is damaged and was removed; start the workflow again, which makes it again"


def _in_words(error: Exception) -> str:
    if isinstance(error, DeidlibError):
        return str(error)
    if os.environ.get("DEIDLIB_DEBUG"):
        return "".join(traceback.format_exception(error)).rstrip()
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} (set DEIDLIB_DEBUG=1 to see where)"
    frames = traceback.extract_tb(error.__traceback__)
    places = "\n".join(f"  {Path(f.filename).name}, line {f.lineno}, in {f.name}" for f in frames[-8:])
    return (
        f"unexpected {type(error).__name__}; its text is withheld, since it may name a patient "
        f"(set DEIDLIB_DEBUG=1 to see it, away from shared logs):\n{places}"
    )


def group(help: str) -> typer.Typer:
    """Make a Typer application whose help is plain text and whose errors are lines."""
    return typer.Typer(
        cls=Commands,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def add(app: typer.Typer, name: str, function: Callable, panel: str | None = None) -> None:
    """Add a command, to a group of the help; the lines of its docstring's example are kept as they are.

    One that takes a ``typer.Context`` finds in ``args`` what stands behind its arguments.
    """
    text = inspect.cleandoc(function.__doc__).replace("\nExample:", "\n\b\nExample:")
    more = {"allow_extra_args": "context" in inspect.signature(function).parameters}
    app.command(name, help=text, rich_help_panel=panel, context_settings=more)(function)


def stage_options(stage: str, text: str, generator: str | None = None) -> dict:
    """Take the stage's options from ``--options``, completed with defaults and the generator's preset, and checked."""
    from deidlib import config

    try:
        return config.complete_options(stage, json_object(text, "--options"), generator)
    except config.ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def settings(given: str | dict) -> dict:
    """Complete a configuration given as JSON or as a dictionary, without ``cohort``."""
    from deidlib import config

    try:
        given = json_object(given, "--config") if isinstance(given, str) else given
        return config.complete_config({"cohort": "samples.tsv", **given})
    except config.ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def json_list(text: str, option: str) -> list[str]:
    """Read a JSON list of texts."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise typer.BadParameter(f"not a JSON list of texts; write for example {option} '[]'")
    return given


def json_object(text: str, option: str) -> dict:
    """Read a JSON object."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise typer.BadParameter(f"not a JSON object; write for example {option} '{{}}'")
    return given


def choice(value: str, allowed: tuple[str, ...], option: str) -> str:
    """Return ``value`` if it is allowed; else raise a usage error."""
    if value not in allowed:
        raise typer.BadParameter(f"{option} is one of {', '.join(allowed)}, not {value}")
    return value


def secret(key_file: Path | None) -> bytes:
    """Read the secret key; no key, no run."""
    from deidlib.keys import read_key

    if key_file is None:
        raise InputError(
            "no key is named. Make one with `deidlib keygen FILE` and name it in key_file of the "
            "configuration, in DEIDLIB_KEY_FILE, or with --key"
        )
    return read_key(key_file)


def known_part(part: int, of: int) -> tuple[int, int]:
    """Number of a part and how many there are; an error where there is no such part."""
    if part >= of:
        raise InputError(f"--part {part}: the parts are numbered from 0 to {of - 1}")
    return part, of
