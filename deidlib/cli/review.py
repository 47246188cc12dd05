"""The command by which a person looks at results and decides: review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.common import choice
from deidlib.logs import progress, say


def review(
    results: Annotated[Path, typer.Argument(help="Results folder.", show_default=False)] = Path("results"),
    role: Annotated[str, typer.Option(help="Your role, which the audit states instead of a name.")] = "clinician",
    reviewer: Annotated[int, typer.Option(min=1, max=2, help="1 or 2, where two people review.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 0,
    shard: Annotated[
        list[str] | None, typer.Option(help="Show the patients of this shard alone; may be repeated.")
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(help="Write a folder that works without a server, and end.", show_default=False),
    ] = None,
    take: Annotated[
        Path | None,
        typer.Option("--import", help="Take in decisions that such a folder exported, and end.", show_default=False),
    ] = None,
) -> None:
    """Look at originals beside results, and decide what is released.

    Serves a page on this machine alone; every decision is on the disk before the page says so. Stop with Ctrl-C, go on
    whenever you like. From another machine, for example a cluster, come through an SSH tunnel (docs/review.md).

    Example:
      deidlib review results/ --role orthodontist
      deidlib review results/ --static to-review/
      deidlib review results/ --import decisions.json
    """
    from deidlib.review.cases import Cohort
    from deidlib.review.decisions import ROLES

    choice(role, ROLES, "--role")
    if static and take:
        raise typer.BadParameter("--static and --import are two things to do")
    cohort = Cohort(results, shard)
    if take is not None:
        _import(cohort, take)
    elif static is not None:
        from deidlib.review.static import write_static

        with progress("review", sum(len(cases) for cases in cohort.patients().values())) as step:
            count = write_static(cohort, static, role, reviewer, step)
        say(f"{count} photographs: open index.html in the new folder. It holds ORIGINALS: keep it protected, delete it")
    else:
        _serve(cohort, role, reviewer, port)


def _serve(cohort, role: str, reviewer: int, port: int) -> None:
    from deidlib.report.mask import mask_page, read_photograph
    from deidlib.review.server import ReviewServer

    def draw(photo: str) -> str:
        return mask_page(read_photograph(cohort.private, cohort.shards, photo), sends=True)

    with ReviewServer(cohort, role, reviewer, port, draw) as server:
        print(f"Open this address in a browser on this machine (Ctrl-C ends):\n\n  {server.address}\n", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("review closed; every decision is kept")


def _import(cohort, file: Path) -> None:
    from deidlib.review.static import import_decisions

    counts = import_decisions(cohort, file)
    say(f"decisions: {counts['taken']} taken in, {counts['known']} known already")
    if counts["changed"]:
        say(f"  {counts['changed']} were made on images that have changed since: look at these again")
