"""Commands that repeat with every attempt: donors, invert, blend, check; and the donor bank's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deidlib.cli.common import (
    DEVICES,
    GENERATORS,
    IDENTITIES,
    Device,
    GeneratorName,
    KeyFile,
    Options,
    Out,
    Table,
    Threads,
    add,
    choice,
    group,
    json_list,
    secret,
    stage_options,
)
from deidlib.contract.routes import GENERATE
from deidlib.logs import progress
from deidlib.storage.stage import count, nothing_to_do, open_private, read, write, write_empty, writing

if TYPE_CHECKING:
    import pyarrow as pa

donors_app = group("The donors: choose them for a shard's photographs, or build the bank they are drawn from.")


def choose(
    photos: Table,
    landmarks: Table,
    regions: Table,
    out: Out,
    before: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Checks, donors and faces of the attempt before; none at attempt 0.",
            metavar="[CHECKS DONORS FACES]",
            show_default=False,
        ),
    ] = None,
    attempt: Annotated[int, typer.Option(min=0, help="Attempt number, from 0.")] = 0,
    identity: Annotated[str, typer.Option(help="per_patient or per_photo.")] = "per_patient",
    generator: GeneratorName = "mobilestylegan",
    requested: Annotated[
        str | None,
        typer.Option(
            help="JSON list of photographs for which a reviewer asked this attempt: it handles them, and those that "
            "share the face, alone. By default those that failed the attempt before."
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Candidates drawn at a time, each on one core; the result is the same.")
    ] = 1,
    options: Options = "{}",
    key_file: KeyFile = None,
) -> None:
    """Choose a synthetic identity for every photograph that this attempt handles.

    After attempt 0 these are the photographs that failed. With the same donor they go on from where they are; if that
    failed too, all that share the face get a new donor.

    Example:
      deidlib donors choose --photos P --landmarks L --regions R --out attempt-0/donors.parquet
    """
    choice(identity, IDENTITIES, "--identity")
    choice(generator, GENERATORS, "--generator")
    if len(before or ()) != (3 if attempt else 0):
        raise typer.BadParameter(
            "attempt 0 takes no tables, and every later one checks, donors and faces of the attempt before"
        )
    settings, key = stage_options("donors", options, generator), secret(key_file)
    areas = read(regions, "REGIONS", ["release_photo_id", "route", "method", "status"]).to_pylist()
    handle = [row["release_photo_id"] for row in areas if row["status"] == "ok" and row["route"] == GENERATE]
    going_on = None
    if before:
        going_on, moved = _next_attempt(before, photos, identity, attempt, requested)
        handle = [photo_id for photo_id in handle if photo_id in moved]
    open_private(out)
    if not handle:
        write_empty(out, "DONORS") if going_on is None else write(going_on, out, "DONORS")
        return
    from deidlib import compute

    compute.quiet_native_libraries()
    from deidlib.donors import model
    from deidlib.donors.choose import choose_donors
    from deidlib.donors.fit import REACH_THE_JAW
    from deidlib.storage.parts import in_parts
    from deidlib.vision.landmarks import FaceLandmarker
    from deidlib.vision.networks import landmarker_file

    compute.pin_order()
    jaws = {row["release_photo_id"] for row in areas if row["method"] in REACH_THE_JAW}
    network, editor, bank = model.donor_model(generator)
    with (
        FaceLandmarker(landmarker_file()) as landmarker,
        progress("donors", len(handle)) as step,
        writing(out, "DONORS") as append,
    ):
        if going_on is not None:
            append(going_on)
        see = model.observer(network, landmarker, threads)
        for rows, points in in_parts(photos, (landmarks, "LANDMARKS"), only=handle):
            here = [photo_id for photo_id in handle if photo_id in _ids(rows)]
            likenesses = model.likenesses(rows, points, here, jaws)
            append(choose_donors(rows, here, likenesses, bank, editor, see, key, attempt, identity, settings, step))


def _next_attempt(
    before: list[Path], photos: Path, identity: str, attempt: int, requested: str | None
) -> tuple[pa.Table | None, set[str]]:
    """Donors of the photographs that go on (None: there are none), and the photographs that get a new donor."""
    from deidlib.inversion.going_on import same_donors
    from deidlib.outcomes.attempts import next_attempt, with_their_group

    checks, donors, faces = before
    known = read(photos, "PHOTOS", ["release_photo_id", "release_patient_id"])
    if requested is not None:
        return None, with_their_group(json_list(requested, "--requested"), known, identity)
    last = read(donors, "DONORS")
    found = next_attempt(read(checks, "CHECKS"), last, known, identity)
    if not found.going_on:
        return None, found.new_donor
    codes = read(faces, "FACES", ["release_photo_id", "latent"])
    return same_donors(last, codes, found.going_on, attempt), found.new_donor


def build(
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Parquet file; by default the shipped bank, or beside your own weights.", show_default=False
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Number of synthetic identities.")] = 2048,
    generator: GeneratorName = "mobilestylegan",
    device: Device = "auto",
) -> None:
    """Build the donor bank: synthetic faces, drawn and described. For stylegan2 also fit its preview.

    Example:
      deidlib donors build donors.parquet --size 2048
    """
    choice(generator, GENERATORS, "--generator")
    choice(device, DEVICES, "--device")
    from deidlib import compute

    compute.quiet_native_libraries()
    from deidlib.donors.bank import build_bank
    from deidlib.generators.opened import fit_preview
    from deidlib.generators.opened import generator as opened
    from deidlib.models import bank_file
    from deidlib.storage import tables
    from deidlib.vision.landmarks import FaceLandmarker
    from deidlib.vision.networks import age_sex, landmarker_file, recogniser, yunet

    network = opened(generator).to(compute.device(device))
    fit_preview(generator, network)
    detector = yunet()
    embedders = [recogniser(name, detector) for name in ("sface", "dlib", "facexzoo")]
    with (
        FaceLandmarker(landmarker_file()) as landmarker,
        progress("donors", size, "identities") as step,
    ):
        bank = build_bank(
            network,
            landmarker,
            detector,
            *embedders,
            age_sex(),
            size,
            progress=step,
        )
    out = out or bank_file(generator)
    tables.write(bank, out, tables.BANK)
    out.chmod(0o644)  # synthetic, and a cluster's users share it


def invert(
    photos: Table,
    landmarks: Table,
    regions: Table,
    donors: Table,
    out: Out,
    generator: GeneratorName = "mobilestylegan",
    device: Device = "auto",
    threads: Threads = 1,
    options: Options = "{}",
) -> None:
    """Find the face that agrees with the patient in the preserved area and with the donor elsewhere.

    Example:
      deidlib invert --photos P --landmarks L --regions R --donors D --out attempt-0/faces.parquet
    """
    choice(generator, GENERATORS, "--generator")
    choice(device, DEVICES, "--device")
    settings = stage_options("inversion", options, generator)
    chosen = read(donors, "DONORS")
    open_private(out)
    if nothing_to_do(chosen, out, "FACES"):
        return
    from deidlib import compute
    from deidlib.models import compiled_folder

    if settings["compile"]:
        compute.keep_compiled(compiled_folder())
    from deidlib.inversion.faces import invert_faces
    from deidlib.inversion.networks import inversion_networks
    from deidlib.storage.parts import in_parts

    compute.pin_order()
    networks = inversion_networks(generator, compute.device(device), settings["identity_led_by"])
    shard = (landmarks, "LANDMARKS"), (regions, "REGIONS"), (donors, "DONORS")
    parts = in_parts(photos, *shard, only=_ids(chosen))
    with progress("inversion", count(chosen)) as step, writing(out, "FACES") as append:
        for made in invert_faces(parts, networks, settings, threads, step):
            append(made)


def blend(
    photos: Table,
    landmarks: Table,
    regions: Table,
    faces: Table,
    out: Out,
    attempt: Annotated[int, typer.Option(min=0, help="Attempt number, from 0.")] = 0,
    options: Options = "{}",
) -> None:
    """Put the generated face into the photograph's own pixel grid around the preserved core.

    At attempt 0 the photographs that need no generated face (routes region_only and intraoral) are made as well.

    Example:
      deidlib blend --photos P --landmarks L --regions R --faces F --out attempt-0/blended.parquet
    """
    settings = stage_options("blending", options)
    generated = read(faces, "FACES", ["release_photo_id", "status"])
    areas = read(regions, "REGIONS", ["release_photo_id", "route", "status"])
    open_private(out)
    if nothing_to_do(areas, out, "BLENDED") or (attempt and nothing_to_do(generated, out, "BLENDED")):
        return
    import pyarrow as pa

    from deidlib.blending.composite import blend_faces
    from deidlib.blending.masking import mask_photos, without_face
    from deidlib.storage.parts import in_parts

    masked = _ids(without_face(areas)) if attempt == 0 else set()
    shard = (landmarks, "LANDMARKS"), (regions, "REGIONS"), (faces, "FACES")
    with progress("blending", count(generated) + len(masked)) as step, writing(out, "BLENDED") as append:
        for rows, points, squares, part in in_parts(photos, *shard, only=_ids(generated) | masked):
            made = mask_photos(rows, squares, attempt, step), blend_faces(rows, points, squares, part, settings, step)
            append(pa.concat_tables(made))


def check(photos: Table, regions: Table, faces: Table, blended: Table, out: Out, options: Options = "{}") -> None:
    """Judge every result of an attempt: recognisers, face detectors, the core's pixels, metadata.

    Example:
      deidlib check --photos P --regions R --faces F --blended B --out attempt-0/checks.parquet
    """
    settings = stage_options("checks", options)
    results = read(blended, "BLENDED", ["release_photo_id"])
    open_private(out)
    if not len(results):
        write_empty(out, "CHECKS")
        return
    from deidlib import compute

    compute.quiet_native_libraries()
    from deidlib.checks.gate import check_photos
    from deidlib.checks.realism import Realism, read_network
    from deidlib.storage.parts import in_parts
    from deidlib.vision.face_search import FaceSearch
    from deidlib.vision.landmarks import FaceLandmarker
    from deidlib.vision.networks import dlib_resnet, landmarker_file, sface, text_search, yunet

    compute.pin_order()
    detector = yunet()
    judges = {"sface": sface(detector), "dlib": dlib_resnet()}
    generated = read(faces, "FACES", ["release_photo_id", "donor_id", "latent_distance"])
    shard = (regions, "REGIONS"), (blended, "BLENDED")
    with (
        FaceLandmarker(landmarker_file()) as landmarker,
        progress("checks", len(results)) as step,
        writing(out, "CHECKS") as append,
    ):
        detectors = {"yunet": detector, "mediapipe": landmarker, "text": text_search()}
        search, realism = FaceSearch(detector, landmarker), Realism(read_network())
        for rows, areas, part in in_parts(photos, *shard, only=_ids(results)):
            append(check_photos(rows, areas, part, generated, judges, detectors, search, realism, settings, step))


def _ids(table: pa.Table) -> set[str]:
    return set(table["release_photo_id"].to_pylist())


add(donors_app, "choose", choose)
add(donors_app, "build", build)
