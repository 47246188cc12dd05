"""Commands of the re-identification audit: embeddings of a shard, and the attack suite over the whole cohort."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from deidlib.cli.common import (
    InputError,
    Out,
    open_private,
    read,
    read_json,
    settings,
    write_json,
)
from deidlib.cli.distractors import bank_faces, gallery_faces, open_recognisers, sha256
from deidlib.cli.publish import Plan, Settings
from deidlib.intake.routes import GENERATE
from deidlib.logs import progress, say

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from deidlib.outcomes.outcomes import Outcome
    from deidlib.reid.side_channels import Photo
    from deidlib.vision.recognisers import Recogniser


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
    from deidlib.cli import weights
    from deidlib.storage import tables

    cfg = settings(given)
    weights.pin_order()
    open_private(out)
    folder = plan.parent / "shards" / shard
    outcomes = _outcomes(plan.parent, shard, cfg)
    chosen = {o.photo["release_photo_id"]: o.attempt for o in outcomes if o.attempt is not None}
    table = _embedded(folder, chosen, open_recognisers(cfg["reid"]["recognisers"]), cfg)
    tables.write(table, out, tables.EMBEDDINGS)
    out.chmod(0o600)
    say(f"{out.name}: {len(chosen)} photographs would be released; {table.num_rows} embeddings")


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
    given: Settings = "{}",
) -> None:
    """Attack the cohort with every recogniser, and judge by the release gate.

    Writes every number to the JSON file. The exit code is 0 also where the gate fails: the file has the verdict, and
    `deidlib release` obeys it. With RELEASE, the images of a finished release are attacked instead, for example with
    another recogniser or gallery; the exit code is then 1 where the gate fails.

    Example:
      deidlib reid --plan results/private/plan.json --out results/private/reid/attacks.json
      deidlib reid results/release/1.0.0 --plan results/private/plan.json --out again.json --recogniser dlib
    """
    from deidlib.cli import weights
    from deidlib.models import recognisers
    from deidlib.reid.parrot import parrot_attacks
    from deidlib.reid.suite import Evidence, run_suite
    from deidlib.reid.tradeoff import tradeoff, words

    cfg = settings(given)
    weights.pin_order()
    if recogniser:
        cfg["reid"]["recognisers"] = list(dict.fromkeys(recogniser))
    names, known = cfg["reid"]["recognisers"], recognisers()
    if lacking := [name for name in names if name not in known]:
        raise InputError(f"no recogniser called {lacking[0]}; config/models.yaml has {', '.join(sorted(known))}")
    open_private(out)
    folder = gallery or cfg["reid"]["gallery"]
    shards = read_json(plan)["shards"]
    if release is None:
        cohort = _would_be_released(plan.parent, shards, cfg)
    else:
        cohort = _finished_release(plan.parent, shards, release, cfg, known)
    bank, bank_sum = bank_faces(cfg["generator"], names)
    crowd = gallery_faces(Path(folder), names, known, plan.parent / "reid") if folder else {}
    about = {name: {**known[name], **_measure(name)} for name in names}
    evidence = Evidence(cohort.photos, cohort.embeddings, about, bank, crowd, cohort.risk)
    more = [lambda attacker: parrot_attacks(attacker, cfg["reid"]["fmr"], cfg["reid"]["seed"])]
    if cfg["reid"]["reversal_steps"]:
        from deidlib.cli.restored import reversal

        more.append(reversal(plan.parent, cohort.photos, cohort.attempts, shards, release, cfg["reid"]))
    result = run_suite(evidence, cfg["reid"], cfg["identity"], more)
    above = {name: about[name]["same_above"] for name in names}
    guide, rows = cfg["inversion"]["guide"], read_json(sweep)["rows"] if sweep else []
    result["tradeoff"] = tradeoff(rows, cfg["preserve"], guide, result["calibration"], above, cfg["reid"]["seed"])
    result["words"] += words(result["tradeoff"])
    result["inputs"] = {**cohort.inputs, "bank": bank_sum}
    if crowd:
        result["inputs"]["gallery faces"] = {name: len(vectors) for name, vectors in crowd.items()}
    write_json(result, out)
    _told(result, len(shards))
    if release is not None and not result["gate"]["passed"]:
        raise typer.Exit(1)


def _told(result: Mapping, shards: int) -> None:
    failed = [criterion for criterion in result["gate"]["criteria"] if not criterion["passed"]]
    say(f"reid: {len(result['attacks'])} attacks on {shards} shards; release gate {'FAILED' if failed else 'passed'}")
    for criterion in failed:
        say(f"  not kept: {criterion['statement']}. {criterion['note']}".rstrip())


def _measure(name: str) -> dict[str, Any]:
    """How a recogniser's scores read, without opening it."""
    from deidlib.vision.recognisers import DlibResNet, Recogniser

    kind = DlibResNet if name == DlibResNet.name else Recogniser
    return {"measure": kind.measure, "same_above": kind.same_above}


def _outcomes(private: Path, shard: str, cfg: Mapping) -> list[Outcome]:
    from deidlib.outcomes.outcomes import read_outcomes

    return read_outcomes(private, shard, cfg["attempts"], cfg["checks"], cfg["identity"])


def _embedded(
    folder: Path,
    chosen: Mapping[str, int],
    opened: list[Recogniser],
    cfg: Mapping,
    encoded: Callable[[str], bytes] | None = None,
) -> pa.Table:
    """Embed a shard part by part; ``encoded`` gives the images of a finished release instead of the shard's own."""
    import pyarrow as pa

    from deidlib.cli.parts import in_parts
    from deidlib.reid.embeddings import Released, embed_shard
    from deidlib.storage import tables
    from deidlib.storage.images import decode_png

    attempts = [] if encoded else sorted(set(chosen.values()))
    blended = [(folder / f"attempt-{attempt}" / "blended.parquet", "BLENDED") for attempt in attempts]
    photos = folder / "photos.parquet"
    donor, parts = _donor_faces(folder, chosen, cfg["generator"]), []
    with progress("embeddings", read(photos, "PHOTOS", ["release_photo_id"]).num_rows) as step:
        others = (folder / "regions.parquet", "REGIONS"), *blended
        for rows, regions, *made in in_parts(photos, *others, columns=["image", "status"]):
            own = {
                row["release_photo_id"]: row["image"]
                for attempt, table in zip(attempts, made, strict=True)
                for batch in table.select(["release_photo_id", "image"]).to_batches(max_chunksize=16)
                for row in batch.to_pylist()
                if chosen.get(row["release_photo_id"]) == attempt
            }

            def released(photo_id: str, own: Mapping = own) -> Released | None:
                if photo_id not in chosen:
                    return None
                png = encoded(photo_id) if encoded else own[photo_id]
                return Released(chosen[photo_id], decode_png(png))

            parts.append(embed_shard(rows, regions, released, opened, donor, step))
    order = [(name, "ascending") for name in ("release_photo_id", "shown", "recogniser")]
    return pa.concat_tables([tables.EMBEDDINGS.empty_table(), *parts]).sort_by(order)


def _donor_rows(folder: Path, chosen: Mapping[str, int], columns: list[str]) -> Iterator[dict]:
    """Give the donors that released photographs were made with, in the order of the tables."""
    for attempt in sorted(set(chosen.values())):
        table = read(folder / f"attempt-{attempt}" / "donors.parquet", "DONORS", ["release_photo_id", *columns])
        yield from (row for row in table.to_pylist() if chosen.get(row["release_photo_id"]) == attempt)


def _donor_faces(folder: Path, chosen: Mapping[str, int], generator: str) -> Callable[[str], np.ndarray | None]:
    """Draw every donor once, small, in the pose of the first photograph that it was used for."""
    firsts = {row["donor_id"]: row for row in reversed(list(_donor_rows(folder, chosen, ["donor_id", "w"])))}
    codes = {row["release_photo_id"]: row["w"] for row in firsts.values()}
    if not codes:
        return codes.get
    import torch

    from deidlib.cli import weights
    from deidlib.donors.bank import to_uint8

    network = weights.generator(generator)

    def face(photo_id: str) -> np.ndarray | None:
        if photo_id not in codes:
            return None
        w = torch.tensor(codes[photo_id], dtype=torch.float32)[None, None].expand(-1, network.n_styles, -1)
        with torch.no_grad():
            (image,) = to_uint8(network.preview(w))
        return image

    return face


class _Cohort(NamedTuple):
    """What is attacked."""

    photos: list[Photo]
    attempts: dict[str, int]  # of the photographs that would be released, or were
    embeddings: Callable[[], Iterator[pa.Table]]  # a shard's at a time
    risk: dict
    inputs: dict[str, str]  # what was read → its digest


def _would_be_released(private: Path, shards: list[str], cfg: Mapping) -> _Cohort:
    from deidlib.release.dataset import all_outcomes
    from deidlib.release.gate import chosen_digest
    from deidlib.release.table_risk import outcomes_risk

    photos, attempts, files, inputs = [], {}, [], {}
    for shard in shards:
        folder = private / "shards" / shard
        outcomes = _outcomes(private, shard, cfg)
        chosen = {o.photo["release_photo_id"]: o.attempt for o in outcomes if o.attempt is not None}
        clean = {o.photo["release_photo_id"]: o.check["metadata_free"] for o in outcomes if o.check}
        photos += _photos(folder, outcomes, chosen, clean, {})
        attempts |= chosen
        files.append(folder / "embeddings.parquet")
        inputs[f"embeddings {shard}"] = sha256(files[-1])
    inputs["chosen"] = chosen_digest(all_outcomes(private, shards, cfg["attempts"], cfg))
    risk = outcomes_risk(all_outcomes(private, shards, cfg["attempts"], cfg), cfg)
    return _Cohort(photos, attempts, partial(_tables, files), risk, inputs)


def _tables(files: list[Path]) -> Iterator[pa.Table]:
    return (read(file, "EMBEDDINGS") for file in files)


def _finished_release(private: Path, shards: list[str], release: Path, cfg: Mapping, known: Mapping) -> _Cohort:
    """Embed a release's images and the originals; a shard that was embedded before is not embedded again."""
    from deidlib.release.table_risk import table_risk
    from deidlib.release.verify import SUMS_FILE, read_index
    from deidlib.storage import tables
    from deidlib.storage.png import png_problems

    if not (release / SUMS_FILE).is_file():
        raise InputError("this is no release; name its folder, for example results/release/1.0.0")
    index = read_index(release)
    rows = {row["release_photo_id"]: row for row in index.to_pylist()}
    sums = (release / SUMS_FILE).read_bytes() + "".join(known[n]["sha256"] for n in cfg["reid"]["recognisers"]).encode()
    cache = private / "reid" / hashlib.sha256(sums).hexdigest()[:16]
    opened, photos, attempts, kept_in = [], [], {}, []
    for shard in shards:
        folder = private / "shards" / shard
        outcomes = _outcomes(private, shard, cfg)
        ids = [o.photo["release_photo_id"] for o in outcomes]
        chosen = {i: rows[i]["attempt"] for i in ids if i in rows}
        attempts |= chosen
        files = {i: release / rows[i]["path"] for i in chosen}
        clean = {i: not png_problems(file.read_bytes()) for i, file in files.items()}
        photos += _photos(folder, outcomes, chosen, clean, {i: file.stat().st_mtime for i, file in files.items()})
        kept = cache / f"{shard}.parquet"
        kept_in.append(kept)
        open_private(kept)
        if not kept.is_file():
            opened = opened or open_recognisers(cfg["reid"]["recognisers"])
            table = _embedded(folder, chosen, opened, cfg, lambda photo_id, files=files: files[photo_id].read_bytes())
            tables.write(table, kept, tables.EMBEDDINGS)
    if len(attempts) != len(rows):
        raise InputError(
            f"{len(rows) - len(attempts)} of the release's {len(rows)} photographs are not in this plan's tables; name "
            "the plan that the release was made from"
        )
    risk, inputs = table_risk(index, cfg), {"release": sha256(release / SUMS_FILE)}
    return _Cohort(photos, attempts, partial(_tables, kept_in), risk, inputs)


def _photos(
    folder: Path, outcomes: list[Outcome], chosen: Mapping[str, int], clean: Mapping, times: Mapping
) -> list[Photo]:
    from deidlib.reid.side_channels import Photo

    donors = {row["release_photo_id"]: row["donor_id"] for row in _donor_rows(folder, chosen, ["donor_id"])}
    photos = []
    for outcome in outcomes:
        photo_id = outcome.photo["release_photo_id"]
        if outcome.region is None and photo_id not in chosen:
            continue
        photos.append(
            Photo(
                photo=photo_id,
                patient=outcome.photo["release_patient_id"],
                row=outcome.photo["row"],
                released=photo_id in chosen,
                side=outcome.region["crop_side"] if outcome.region else None,
                donor=donors.get(photo_id),
                generated=outcome.region is None or outcome.region["route"] == GENERATE,
                clean=clean.get(photo_id),
                time=times.get(photo_id),
            )
        )
    return photos
