"""Commands of the re-identification audit: embeddings of a shard, and the attack suite over the whole cohort."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.common import Out, Part, Parts, Plan, Settings, json_object, known_part, settings
from deidlib.errors import InputError
from deidlib.logs import say
from deidlib.reid.verdicts import FAILED, NOT_JUDGED, PASSED
from deidlib.storage.atomic import write_json
from deidlib.storage.results import Results
from deidlib.storage.stage import open_private, read_json


def embeddings(
    plan: Plan,
    shard: Annotated[str, typer.Option(help="Name of the shard, for example s0000.", show_default=False)],
    out: Out,
    given: Settings = "{}",
) -> None:
    """Embed a shard's photographs for the attacks: originals, and what would be released, whole and in parts.

    Example:
      deidlib embeddings --plan private/plan.json --shard s0000 --out private/shards/s0000/embeddings.parquet
    """
    from deidlib import compute
    from deidlib.outcomes.outcomes import chosen_attempts
    from deidlib.reid.cohort import embed_photos, write_embeddings
    from deidlib.vision.networks import open_recognisers

    cfg = settings(given)
    compute.pin_order()
    open_private(out)
    results = Results.of_plan(plan)
    chosen = chosen_attempts(results.private, [shard])
    table = embed_photos(results.shard(shard), chosen, open_recognisers(cfg["reid"]["recognisers"]), cfg)
    write_embeddings(table, out)
    out.chmod(0o600)
    say(f"{out.name}: {len(chosen)} photographs would be released; {table.num_rows} embeddings")


def gather(plan: Plan, out: Annotated[Path, typer.Option(help="JSON file to write.", show_default=False)]) -> None:
    """Write the digests of all shards' embeddings: `deidlib search` names by them what it searched.

    Example:
      deidlib gather --plan private/plan.json --out private/reid/embeddings.json
    """
    from deidlib.reid.cohort import digests_of_embeddings

    open_private(out)
    found = digests_of_embeddings(Results.of_plan(plan).private, read_json(plan)["shards"])
    write_json(found, out)
    say(f"gather: embeddings of {len(found)} shards")


def search(
    plan: Plan,
    digests: Annotated[Path, typer.Option(help="What `deidlib gather` wrote.", show_default=False)],
    part: Part,
    of: Parts,
    out: Out,
    given: Settings = "{}",
) -> None:
    """Do a part of the searches among all originals of a large cohort; `deidlib reid --parts` joins them.

    Example:
      deidlib search --plan private/plan.json --digests private/reid/embeddings.json --part 0 --of 100 --out 0.parquet
    """
    from deidlib import compute
    from deidlib.reid.stage import search as count

    cfg = settings(given)
    compute.pin_order()
    _demand_recognisers(cfg)
    open_private(out)
    private, shards = Results.of_plan(plan).private, read_json(plan)["shards"]
    done = count(private, shards, cfg, cfg["reid"]["gallery"], read_json(digests), known_part(part, of), out)
    out.chmod(0o600)
    say(f"{out.name}: {done} searches of single photographs, part {part} of {of}")


def reid(
    release: Annotated[
        Path | None,
        typer.Argument(help="A finished release to attack; else what would be released.", show_default=False),
    ] = None,
    plan: Plan = ...,
    out: Annotated[Path, typer.Option(help="JSON file to write.", show_default=False)] = ...,
    recogniser: Annotated[
        list[str] | None,
        typer.Option(help="Recogniser of config/models.yaml, instead of reid.recognisers; may be repeated."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Folder of photographs of other people, instead of reid.gallery.")
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="What `deidlib sweep` wrote, for the trade-off.", show_default=False)
    ] = None,
    parts: Annotated[
        int, typer.Option(min=1, help="Parts in which `deidlib search` has done the searches; 1: they are done here.")
    ] = 1,
    processes: Annotated[
        int, typer.Option(min=1, help="Recognisers that attack at a time, each in a process of its own.")
    ] = 1,
    given: Settings = "{}",
) -> None:
    """Attack the cohort with every recogniser, and judge by the release gate.

    Writes every number to the JSON file. The exit code is 0 even if the gate fails: the file has the verdict, and
    `deidlib release` follows it. With RELEASE, the images of a finished release are attacked instead, for example with
    another recogniser or gallery; the exit code is then 1 if the gate fails. How a finished release was made is read
    from its settings.json, and of --config the block reid alone counts.

    Example:
      deidlib reid --plan results/private/plan.json --out results/private/reid/attacks.json
      deidlib reid results/release/1.0.0 --plan results/private/plan.json --out again.json --recogniser dlib
    """
    from deidlib import compute
    from deidlib.models import recognisers
    from deidlib.reid.cohort import finished_release, would_be_released
    from deidlib.reid.stage import attack

    cfg = settings(given)
    index, encoded = None, None
    if release is not None:
        from deidlib.release.settings import settings_of_release

        index, encoded = _opened_release(release)
        cfg = settings_of_release(release, json_object(given, "--config").get("reid"))
    compute.pin_order()
    if recogniser:
        cfg["reid"]["recognisers"] = list(dict.fromkeys(recogniser))
    _demand_recognisers(cfg)
    open_private(out)
    results, shards = Results.of_plan(plan), read_json(plan)["shards"]
    private, made = results.private, [results.searches(part) for part in range(parts)] if parts > 1 else []
    if release is None:
        cohort = would_be_released(private, shards, cfg)
    else:
        from deidlib.release.layout import SUMS_FILE
        from deidlib.release.reading import read_bytes

        sums, known = read_bytes(release, SUMS_FILE), recognisers()
        cohort = finished_release(private, shards, index, release, sums, cfg, known, encoded)
    swept = read_json(sweep) if sweep else None
    result = attack(private, shards, cohort, cfg, gallery or cfg["reid"]["gallery"], swept, encoded, made, processes)
    write_json(result, out)
    _say_verdict(result, len(shards))
    if release is not None and not result["gate"]["passed"]:
        raise typer.Exit(1)


def _demand_recognisers(cfg: Mapping) -> None:
    from deidlib.models import recognisers

    known = recognisers()
    if lacking := [name for name in cfg["reid"]["recognisers"] if name not in known]:
        raise InputError(f"no recogniser called {lacking[0]}; config/models.yaml has {', '.join(sorted(known))}")


def _opened_release(release: Path):
    """Index of a finished release, and the way to its images."""
    from deidlib.release.layout import SUMS_FILE
    from deidlib.release.reading import read_bytes, read_index

    if not (release / SUMS_FILE).is_file():
        raise InputError("this is no release; name its folder, for example results/release/1.0.0")
    index = read_index(release)
    path_of = dict(zip(index["release_photo_id"].to_pylist(), index["path"].to_pylist(), strict=True))
    return index, lambda photo_id: read_bytes(release, path_of[photo_id] or "")


def _say_verdict(result: Mapping, shards: int) -> None:
    gate = result["gate"]
    words = {PASSED: "passed", FAILED: "FAILED", NOT_JUDGED: "not judged in full: the cohort is too small"}
    say(f"reid: {len(result['attacks'])} attacks on {shards} shards; release gate {words[gate['verdict']]}")
    for criterion in gate["criteria"]:
        if criterion["verdict"] == FAILED or criterion["small"]:
            said = "failed" if criterion["verdict"] == FAILED else "not judged"
            say(f"  {said}: {criterion['statement']}. {criterion['note']}".rstrip())
