"""Commands of the first stages: plan, intake, landmarks, regions. Each reads, calls the library, writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.common import (
    KeyFile,
    Options,
    Out,
    Plan,
    Settings,
    Sheet,
    Table,
    choice,
    secret,
    settings,
    stage_options,
)
from deidlib.logs import progress, say
from deidlib.storage.results import Results
from deidlib.storage.stage import count, nothing_to_do, open_private, read, writing

PRESERVE = ("teeth", "mouth", "lower_face")


def plan(
    sheet: Annotated[Path, typer.Argument(help="Sample sheet: TSV, CSV or Excel workbook.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(help="plan.json to write, in the results' private folder.", show_default=False)
    ],
    shards: Annotated[
        int, typer.Option(min=0, help="Number of shards; 0: about 200 photographs each, up to 1000 in large cohorts.")
    ] = 0,
    given: Settings = "{}",
    key_file: KeyFile = None,
) -> None:
    """Check the whole sample sheet, report how a run would read it, and assign its patients to shards.

    An error that would endanger a patient stops the run here. `deidlib preview` reports the same and writes nothing.

    Example:
      deidlib plan cohort/samples.tsv results/private/plan.json
    """
    from deidlib.config import refuse_key_inside
    from deidlib.intake import cohort, contents
    from deidlib.review.withdrawal import forget_withdrawn

    if out != Results.of_plan(out).plan:
        raise typer.BadParameter("the plan is called plan.json, as the stages after it expect")
    key, rules = secret(key_file), settings(given)["release"]["columns"]
    results = Results.of_plan(out)
    refuse_key_inside(key_file, results.root)
    opened = cohort.open_sheet(sheet, rules)
    _show_preview(opened)
    seen = results.contents
    known = contents.read_known(seen)
    photos = cohort.read_sheet(opened, known)
    open_private(out)
    if gone := forget_withdrawn(out.parent, photos, key):
        say(f"plan: {len(gone)} tables of face templates held one of a photograph that left the cohort; removed")
    contents.write_known(known, seen)
    dealt = cohort.plan_shards(photos, key, cohort.choose_shards(len(photos), out.parent, shards or None))
    changed = cohort.write_plan(dealt, out.parent)
    for name in changed:
        if not dealt[name].num_rows:  # its patients were taken out of the sheet: keep nothing of them
            shutil.rmtree(results.shard(name))
    used = sum(bool(table.num_rows) for table in dealt.values())
    say(f"plan: {len(photos)} photographs in {used} shards, {len(changed)} of them new or changed")


def preview(
    sheet: Annotated[Path, typer.Argument(help="Sample sheet: TSV, CSV or Excel workbook.", show_default=False)],
    configfile: Annotated[
        Path | None,
        typer.Option(help="Your configuration (YAML): what it releases is screened too.", show_default=False),
    ] = None,
) -> None:
    """Report how a run would read a sample sheet, and what in it would stop a run; nothing is written.

    Photographs are looked for, not opened. The exit code is 1 where a run would stop.

    Example:
      deidlib preview cohort/samples.tsv --configfile my.yaml
    """
    from deidlib import config
    from deidlib.intake.cohort import open_sheet

    cfg = config.load_config(configfile, {"cohort": str(sheet)}) if configfile else settings("{}")
    _show_preview(open_sheet(sheet, cfg["release"]["columns"]))


def _show_preview(opened) -> None:
    from deidlib.intake.preview import in_words
    from deidlib.intake.preview import preview as look

    found = look(opened)
    say(in_words(found))
    if found.stops:
        raise typer.Exit(1)


def intake(
    cohort: Table,
    sheet: Sheet,
    out: Out,
    options: Options = "{}",
    drawn: Annotated[
        Path | None,
        typer.Option(help="Folder of the masks that reviewers drew on this shard's photographs.", show_default=False),
    ] = None,
    key_file: KeyFile = None,
) -> None:
    """Decode a shard's photographs, drop their metadata, give pseudonyms, reject files that cannot be read safely.

    Example:
      deidlib intake --cohort cohort.parquet --sheet cohort/samples.tsv --out photos.parquet
    """
    from deidlib.intake.photos import intake_in_parts

    settings, key = stage_options("intake", options), secret(key_file)
    rows = read(cohort, "COHORT")
    open_private(out)
    with progress("intake", len(rows)) as step, writing(out, "PHOTOS") as append:
        for part in intake_in_parts(rows, sheet.absolute().parent, key, settings, step, drawn):
            append(part)


def landmarks(
    photos: Table,
    out: Out,
    options: Options = "{}",
    views: Annotated[
        str, typer.Option(help="The configuration's block views as JSON; what is left out has its default.")
    ] = "{}",
) -> None:
    """Decide each photograph's route, and find the face: 478 points, blendshapes, head pose, alignment.

    Example:
      deidlib landmarks --photos photos.parquet --out landmarks.parquet
    """
    settings, routes = stage_options("landmarks", options), stage_options("views", views)
    known = read(photos, "PHOTOS", ["status"])
    open_private(out)
    if nothing_to_do(known, out, "LANDMARKS"):
        return
    from deidlib import compute

    compute.quiet_native_libraries()
    from deidlib.storage.parts import in_parts
    from deidlib.vision.landmarks import find_landmarks
    from deidlib.vision.networks import landmarker_file, yunet

    model, detector = landmarker_file(), yunet()
    with progress("landmarks", count(known)) as step, writing(out, "LANDMARKS") as append:
        for (part,) in in_parts(photos):
            append(find_landmarks(part, model, detector, settings, routes, step))


def regions(
    photos: Table,
    landmarks: Table,
    out: Out,
    preserve: Annotated[str, typer.Option(help="teeth, mouth or lower_face.")] = "mouth",
    options: Options = "{}",
) -> None:
    """Lay out the preserved core, its blend band and the released square; hold back what has text in them.

    Example:
      deidlib regions --photos photos.parquet --landmarks landmarks.parquet --out regions.parquet
    """
    settings, method = stage_options("regions", options), choice(preserve, PRESERVE, "--preserve")
    points = read(landmarks, "LANDMARKS", ["status"])
    open_private(out)
    if nothing_to_do(points, out, "REGIONS"):
        return
    from deidlib.regions.area import preserve_regions
    from deidlib.regions.text import hold_text
    from deidlib.storage.parts import in_parts
    from deidlib.vision.networks import text_search

    search, columns = text_search(), ["image", "mask", "width", "height"]
    with progress("regions", count(points)) as step, writing(out, "REGIONS") as append:
        for part, found in in_parts(photos, (landmarks, "LANDMARKS"), columns=columns):
            append(hold_text(part, preserve_regions(part, found, method, settings), search, step))


def outcomes(
    plan: Plan,
    shard: Annotated[str, typer.Option(help="Name of the shard, for example s0000.", show_default=False)],
    out: Out,
    made: Annotated[
        int | None, typer.Option(min=1, help="Attempts that were made of this shard; by default those of `attempts`.")
    ] = None,
    given: Settings = "{}",
) -> None:
    """For every photograph of a shard, find the attempt that would be released, or the reason why there is none.

    Reviewers' decisions count (`deidlib review`).

    Example:
      deidlib outcomes --plan private/plan.json --shard s0000 --out private/shards/s0000/outcomes.parquet
    """
    from deidlib.outcomes.outcomes import to_table
    from deidlib.review.effect import reviewed_outcomes
    from deidlib.running.shard import counts_of_steps
    from deidlib.storage import tables

    cfg = settings(given)
    open_private(out)
    results, attempts = Results.of_plan(plan), made or cfg["attempts"]
    found = reviewed_outcomes(results, shard, attempts, cfg)
    with tables.writing(out, tables.OUTCOMES, lambda: counts_of_steps(results.shard(shard), attempts)) as append:
        append(to_table(found))
    out.chmod(0o600)
    passed = sum(outcome.attempt is not None for outcome in found)
    say(f"{out.name}: {passed} photographs passed, {len(found) - passed} in quarantine")
