"""Commands for what leaves the private folder: release, report."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.attempts import GENERATORS
from deidlib.cli.common import PRIVATE, open_private, read_json, settings
from deidlib.errors import InputError
from deidlib.logs import say

Plan = Annotated[Path, typer.Option(help="plan.json of the results' private folder.", show_default=False)]
Settings = Annotated[
    str,
    typer.Option("--config", help="The whole configuration as JSON, without cohort and key_file.", show_default=False),
]


def release(
    plan: Plan,
    out: Annotated[Path, typer.Option(help="Folder of this version, for example results/release/1.0.0.")],
    failure_report: Annotated[
        Path | None,
        typer.Option(help="Where to write the audit if nothing passes, for example results/report/1.0.0."),
    ] = None,
    attacks: Annotated[
        Path | None,
        typer.Option(help="What `deidlib reid` wrote; by default reid/attacks.json beside the plan."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Shards whose images are written at a time.")] = 1,
    given: Settings = "{}",
) -> None:
    """Write the release, and the private crosswalk and quarantine list.

    A version that exists with another content is never changed: raise the version. Where no photograph passed, or
    the attacks' results do not keep the release gate, there is no release; the audit says so, and the exit code is 1.

    Example:
      deidlib release --plan results/private/plan.json --out results/release/1.0.0
    """
    from deidlib.release import GateFailed, NothingReleased, obey_gate, write_release
    from deidlib.release.leftovers import drop_leftovers
    from deidlib.release.tombstones import read_tombstones, write_owed_tombstones

    cfg = settings(given)
    names = read_json(plan)["shards"]
    open_private(plan)
    with suppress(OSError):
        out.rmdir()  # Snakemake makes an output's folder beforehand; a version's folder appears whole
    drop_leftovers(plan.parent, names, cfg["attempts"])  # whatever becomes of the release
    attacks = attacks or plan.parent / "reid" / "attacks.json"
    verdict = read_json(attacks) if attacks.is_file() else {}
    try:
        obey_gate(plan.parent, names, cfg["attempts"], cfg, verdict)
        folder = write_release(plan.parent, out.parent, names, cfg["attempts"], out.name, cfg, _models(cfg), threads)
    except (GateFailed, NothingReleased):
        if failure_report is not None:
            suite = attacks if attacks.is_file() else None
            gone = write_owed_tombstones(plan.parent, out.parent, failure_report)
            report(plan, failure_report, None, given, attacks=suite, reviewer=plan.parent / "reviewer.html")
            if gone:
                say(f"{_ids(gone)} not to be released again: {_TELL} (tombstones.txt beside the audit)")
        raise
    _share(folder, threads)
    say(f"release {out.name}: written and complete")
    if gone := len(read_tombstones(folder)):
        say(f"{_ids(gone)} not in it: {_TELL} (tombstones.txt)")


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
    reviewer: Annotated[
        Path | None,
        typer.Option(help="Also write originals and released images side by side to this HTML file, below private/."),
    ] = None,
) -> None:
    """Write the audit: audit.html, audit.pdf and audit.json.

    Example:
      deidlib report --plan private/plan.json --out report/1.0.0 --release release/1.0.0
    """
    if reviewer is not None and PRIVATE not in reviewer.absolute().parent.parts:
        raise InputError("the reviewer's copy shows patients: name a file below the results' private folder")
    from deidlib.report import write_report, write_reviewer_copy

    cfg = settings(given)
    names = read_json(plan)["shards"]
    suite = attacks or plan.parent / "reid" / "attacks.json"
    suite = suite if attacks or suite.exists() else None
    folder = write_report(plan.parent, release, out.parent, names, cfg["attempts"], out.name, cfg, _models(cfg), suite)
    _share(folder)
    if reviewer is not None:
        open_private(reviewer)
        write_reviewer_copy(plan.parent, reviewer, names, cfg["attempts"], out.name, cfg)
    say(f"report {out.name}: written")


_TELL = (
    "tell the recipients to delete them, and where consent was revoked remove the earlier versions from release/ and "
    "report/ as well"
)


def _ids(gone: int) -> str:
    return "1 id of earlier versions is" if gone == 1 else f"{gone} ids of earlier versions are"


def _models(cfg) -> list[dict]:
    from deidlib import models

    others = set(GENERATORS) - {cfg["generator"]}
    registry = models.load_registry()
    return [{"name": name, **entry} for name, entry in registry.items() if name not in others]


def _share(folder: Path, threads: int = 1) -> None:
    """Readable for others, whatever the umask: this is what is made to be shared.

    All get one modification time, so that the order in which images were written tells nothing.
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
