"""Commands for what leaves the private folder: decide, release, report, publish."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deidlib.cli.common import Out, Part, Parts, Plan, Settings, Sheet, known_part, settings
from deidlib.errors import InputError
from deidlib.logs import say
from deidlib.storage.results import PRIVATE, Results
from deidlib.storage.stage import open_private, read_json

if TYPE_CHECKING:
    import pyarrow as pa


def decide(
    plan: Plan,
    attacks: Annotated[
        Path | None,
        typer.Option(help="What `deidlib reid` wrote; by default reid/attacks.json beside the plan."),
    ] = None,
    given: Settings = "{}",
) -> None:
    """Decide whether there is a release: writes decision.json, the crosswalk and the quarantine list beside the plan.

    The exit code is 0 even if the decision is against a release: `deidlib release` then writes nothing, and says why.

    Example:
      deidlib decide --plan results/private/plan.json
    """
    from deidlib.columns.rules import rules_of
    from deidlib.panel.withdrawn import withdrawn_words
    from deidlib.release.decision import decide as take
    from deidlib.release.decision import waiting_words
    from deidlib.release.leftovers import drop_leftovers
    from deidlib.review.workflow import made_attempts

    cfg = settings(given)
    results, names = Results.of_plan(plan), read_json(plan)["shards"]
    open_private(plan)
    # whatever becomes of the release
    drop_leftovers(results.private, names, lambda shard: made_attempts(results.private, shard, cfg))
    for words in withdrawn_words(results.private):
        say(words)
    attacks = attacks or results.attacks
    verdict = read_json(attacks) if attacks.is_file() else {}
    decision = take(results.private, names, verdict, rules_of(cfg), cfg)
    what = f"{decision.released} photographs to be released" if decision.release else "nothing is released"
    say(f"decision: {what}, {decision.held} held back")
    for criterion in decision.failed:
        say(f"  failed: {criterion}")
    if decision.review["waiting"]:
        say(f"  {waiting_words(decision.review)}")


def release(
    plan: Plan,
    sheet: Sheet,
    out: Annotated[Path, typer.Option(help="Folder of this version, for example results/release/1.0.0.")],
    threads: Annotated[int, typer.Option(min=1, help="Shards whose images are written at a time.")] = 1,
    parts: Annotated[
        int,
        typer.Option(min=1, help="Parts in which `deidlib images` has written the images; 1: they are written here."),
    ] = 1,
    given: Settings = "{}",
) -> None:
    """Write the release that was decided on.

    If consent was withdrawn since the plan, or a photograph no longer has a row, nothing is released. A version that
    exists with another content is never changed: raise the version. If the decision is against a release, nothing is
    written and the exit code is 1.

    Example:
      deidlib release --plan results/private/plan.json --sheet cohort/samples.tsv --out results/release/1.0.0
    """
    from deidlib.intake.consent import consented
    from deidlib.release import write_release
    from deidlib.release.consent import demand_consent
    from deidlib.release.shared import join_parts
    from deidlib.release.tombstones import read_tombstones
    from deidlib.storage import tables

    cfg = settings(given)
    with suppress(OSError):
        out.rmdir()  # Snakemake makes an output's folder beforehand; a version's folder appears whole
    names, results = read_json(plan)["shards"], Results.of_plan(plan)
    open_private(plan)

    def look() -> None:
        demand_consent(tables.read(results.crosswalk, tables.CROSSWALK), consented(sheet))

    join = None
    if parts > 1:
        folders = [results.release_part(out.name, part) for part in range(parts)]

        def join(aside: Path, rules: dict, paths: Mapping[str, str]) -> pa.Table:
            return join_parts(results.private, aside, folders, rules, paths, threads)

    folder = write_release(results.private, out.parent, names, out.name, cfg, _models(cfg), threads, look, join)
    _share(folder, threads)
    say(f"release {out.name}: written and complete")
    if gone := len(read_tombstones(folder)):
        say(f"{_ids(gone)} not in it: {_TELL} (tombstones.txt)")


def images(
    plan: Plan,
    part: Part,
    of: Parts,
    out: Annotated[Path, typer.Option(help="Folder to make, below private/.", show_default=False)],
    threads: Annotated[int, typer.Option(min=1, help="Shards whose images are written at a time.")] = 1,
    given: Settings = "{}",
) -> None:
    """Write a part of a large release's images, below private/; `deidlib release --parts` joins them.

    Example:
      deidlib images --plan private/plan.json --part 0 --of 100 --out private/release/1.0.0/0
    """
    from deidlib.release.shared import write_part

    open_private(out)
    results = Results.of_plan(plan)
    done = write_part(results.private, out, read_json(plan)["shards"], known_part(part, of), settings(given), threads)
    say(f"images: {done} written, part {part} of {of}")


def examine(
    release: Annotated[Path, typer.Argument(help="Folder of a release.", show_default=False)],
    part: Part,
    of: Parts,
    out: Out,
) -> None:
    """Examine a part of a large release's images; `deidlib report --parts` takes the results.

    Example:
      deidlib examine results/release/1.0.0 --part 0 --of 100 --out private/release/1.0.0.examined/0.parquet
    """
    from deidlib.release.examined import write_examined

    open_private(out)
    done = write_examined(release, out, known_part(part, of))
    out.chmod(0o600)
    say(f"examine: {done} images, part {part} of {of}")


def report(
    plan: Plan,
    out: Annotated[Path, typer.Option(help="Folder of this version's report, for example results/report/1.0.0.")],
    release: Annotated[
        Path | None, typer.Option(help="The release's folder; leave out where nothing was released.")
    ] = None,
    given: Settings = "{}",
    attacks: Annotated[
        Path | None,
        typer.Option(
            help="Results of the attack suite; by default reid/attacks.json beside the plan, if there is one."
        ),
    ] = None,
    parts: Annotated[
        int, typer.Option(min=1, help="Parts in which `deidlib examine` has read the images; 1: they are read here.")
    ] = 1,
    reviewer: Annotated[
        Path | None,
        typer.Option(help="Also write originals and released images side by side to this HTML file, below private/."),
    ] = None,
) -> None:
    """Write the audit: a summary for the board (HTML, PDF), and the whole audit (HTML, PDF, JSON).

    Example:
      deidlib report --plan private/plan.json --out report/1.0.0 --release release/1.0.0
    """
    if reviewer is not None and PRIVATE not in reviewer.absolute().parent.parts:
        raise InputError("the reviewer's copy shows patients: name a file below the results' private folder")
    from deidlib.release.examined import read_examined
    from deidlib.release.tombstones import write_owed_tombstones
    from deidlib.report import write_report, write_reviewer_copy

    cfg = settings(given)
    results, names = Results.of_plan(plan), read_json(plan)["shards"]
    suite = attacks or (results.attacks if results.attacks.exists() else None)
    gone = write_owed_tombstones(results.private, results.releases, out) if release is None else 0
    found = [results.examined_part(out.name, part) for part in range(parts)] if parts > 1 and release else []
    made_with = names, cfg["attempts"], out.name, cfg, _models(cfg), suite
    examined = read_examined(release, found) if found else None
    folder = write_report(results.private, release, out.parent, *made_with, examined)
    _share(folder)
    if reviewer is not None:
        open_private(reviewer)
        write_reviewer_copy(results.private, reviewer, names, out.name)
    say(f"report {out.name}: written")
    if gone:
        say(f"{_ids(gone)} not to be released again: {_TELL} (tombstones.txt beside the audit)")


def publish(
    release: Annotated[Path, typer.Argument(help="Folder of a release.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(help="Folder to be made; it takes twice the release's size.", show_default=False)
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Check and prepare, upload nothing. Required, because deidlib never uploads by itself."
        ),
    ] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            help="audit.json of this version; by default report/VERSION/audit.json beside release/VERSION.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Prepare a release for Zenodo and Hugging Face: verify it, check its gate, write metadata. Nothing is uploaded.

    A release that has a fault, or whose release gate did not pass, is refused. TO-DO.md in the folder lists what people
    have to fill in, and how to upload.

    Example:
      deidlib publish --check results/release/1.0.0 deposit-1.0.0
    """
    from deidlib.release.deposit import TO_DO_FILE, prepare_deposit

    if not check:
        raise InputError("deidlib uploads nothing by itself; add --check to check the release and prepare its upload")
    if not release.is_dir():
        raise InputError("this is no folder; name a release, for example results/release/1.0.0")
    version = release.resolve()
    audit = audit or Results.of_folder(version.parent.parent).audit_numbers(version.name)
    asked = prepare_deposit(release, out, audit)
    say("the release is whole, and its gate passed; the folder is ready, and nothing was uploaded")
    for line in asked:
        say(f"  to be filled in: {line}")
    say(f"next: read {TO_DO_FILE} in that folder")


_TELL = (
    "tell the recipients to delete them, and where consent was revoked remove the earlier versions from release/ and "
    "report/ as well"
)


def _ids(gone: int) -> str:
    return "1 id of earlier versions is" if gone == 1 else f"{gone} ids of earlier versions are"


def _models(cfg) -> list[dict]:
    from deidlib import models

    return models.used_models(cfg)


def _share(folder: Path, threads: int = 1) -> None:
    """Make files readable for others, whatever the umask: they are made to be shared.

    All get one modification time, so that it does not show the order in which images were written.
    """
    now = time.time()

    def share(path: str | Path, mode: int = 0o644) -> None:
        os.chmod(path, mode)
        os.utime(path, (now, now))

    with ThreadPoolExecutor(threads) as pool:
        for place, _, names in os.walk(folder):
            share(place, 0o755)
            list(pool.map(share, (os.path.join(place, name) for name in names)))
    share(folder.parent, 0o755)
