"""Every table that crosses a stage boundary: columns, types, units and meaning, in one place.

A table is a Parquet file whose schema is one of the constants below. Each column carries a ``description`` (and a
``unit`` where it has one) in its Arrow metadata, so a file explains itself. Every stage writes one row for each
photograph it was given; a photograph that it could not handle has ``status = "quarantined"`` with a reason code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.contract import checks
from deidlib.errors import InputError
from deidlib.storage import sealed

OK = "ok"
QUARANTINED = "quarantined"

_PSEUDONYM = re.compile(r"[a-z2-7]{16}")


def _field(name: str, kind: pa.DataType, description: str, unit: str | None = None) -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, metadata=metadata)


_STATUS = [
    _field("status", pa.string(), "ok, or quarantined"),
    _field("reason", pa.string(), "reason code of a quarantined photograph (reasons.REASONS), else null"),
]
_PHOTO = [_field("release_photo_id", pa.string(), "keyed pseudonym of the photograph (HMAC-SHA-256)")]
_PATIENT = [_field("release_patient_id", pa.string(), "keyed pseudonym of the patient (HMAC-SHA-256)")]
_ROUTE = [_field("route", pa.string(), "how it is de-identified: generate, region_only or intraoral")]
_ATTEMPT = [_field("attempt", pa.int32(), "attempt number, from 0")]
_DONOR = [_field("donor_id", pa.string(), "digest of the donor identity; the same for all photographs that share it")]

#: One shard of the sheet as planned (private): what intake reads.
COHORT = pa.schema(
    [
        _field("row", pa.int64(), "line of the sample sheet, the header being line 1"),
        _field("patient_id", pa.string(), "original patient id (identifying)"),
        _field("photo_id", pa.string(), "original photo id (identifying)"),
        _field("path", pa.string(), "path of the photograph relative to the sheet (identifying)"),
        _field("consent", pa.string(), "yes if every row of the patient says so, else no"),
        _field("view", pa.string(), "frontal_rest, frontal_smile, three_quarter, profile, intraoral or null"),
        _field("timepoint", pa.string(), "time point, for example T0, or null"),
        _field("age", pa.float64(), "age at the photograph, or null", "years"),
        _field("sex", pa.string(), "F, M, X or null"),
        _field("diagnosis", pa.string(), "diagnosis, or null"),
        _field("mask", pa.string(), "path of a mask image relative to the sheet, or null"),
        _field("columns", pa.string(), "further columns of the sheet as a JSON object"),
        _field("duplicate", pa.bool_(), "another row of the sheet carries the same photo_id"),
        _field(
            "fingerprint",
            pa.string(),
            "SHA-256 of the photograph's file, then | and that of the mask's; missing or outside where there is none",
        ),
    ]
)

#: What the plan read of the sheet's files (private), so that it need not read them all again.
CONTENTS = pa.schema(
    [
        _field("path", pa.string(), "real path of the file (identifying)"),
        _field("state", pa.string(), "size, modification time, change time and inode when it was read"),
        _field("sha256", pa.string(), "SHA-256 of its content"),
    ]
)

#: intake → landmarks.
PHOTOS = pa.schema(
    [
        *_PHOTO,
        *_PATIENT,
        _field("patient_id", pa.string(), "original patient id (identifying)"),
        _field("photo_id", pa.string(), "original photo id (identifying)"),
        _field("row", pa.int64(), "line of the sample sheet, the header being line 1"),
        _field("view", pa.string(), "view as the sheet gives it, or null"),
        _field("timepoint", pa.string(), "time point, or null"),
        _field("age", pa.float64(), "age at the photograph, or null", "years"),
        _field("sex", pa.string(), "F, M, X or null"),
        _field("diagnosis", pa.string(), "diagnosis, or null"),
        _field("columns", pa.string(), "further columns of the sheet as a JSON object"),
        _field("capture", pa.string(), "coarse classes of how it was taken (intake.capture) as a JSON object"),
        _field("width", pa.int32(), "width of the decoded photograph", "px, native frame"),
        _field("height", pa.int32(), "height of the decoded photograph", "px, native frame"),
        _field("grey", pa.bool_(), "the photograph has no colour"),
        _field("image", pa.large_binary(), "decoded photograph, upright, sRGB, 8 bit, as PNG without metadata"),
        _field("mask", pa.large_binary(), "clinician's mask as single-channel PNG in the native frame, or null"),
        _field("pixels_sha256", pa.string(), "SHA-256 of the decoded shape and RGB bytes"),
        *_STATUS,
    ]
)

#: landmarks → regions, donors, inversion, blending. Pose and points are null where the route needs none: intraoral,
#: and region_only by a mask.
LANDMARKS = pa.schema(
    [
        *_PHOTO,
        *_ROUTE,
        _field("points", pa.list_(pa.float32()), "478 (x, y) pairs, flat (956 values)", "px, native frame"),
        _field(
            "blendshapes",
            pa.list_(pa.float32()),
            "52 MediaPipe blendshape scores in the model's order",
            "0..1",
        ),
        _field("yaw", pa.float32(), "head turn; positive: the face looks to the image's right", "degrees"),
        _field("pitch", pa.float32(), "head tilt; positive: the face looks down", "degrees"),
        _field("roll", pa.float32(), "head roll; positive: clockwise in the image", "degrees"),
        _field("inter_ocular", pa.float32(), "distance between the eye centres", "px, native frame"),
        _field(
            "aligned_to_native",
            pa.list_(pa.float64()),
            "2×3 similarity matrix, row by row (6 values): generator frame (1024²) to native frame",
        ),
        *_STATUS,
    ]
)

#: regions → inversion, blending, checks. Masks are PNG of the crop's size.
REGIONS = pa.schema(
    [
        *_PHOTO,
        *_ROUTE,
        _field("method", pa.string(), "teeth, mouth, lower_face, mask or (intraoral) whole"),
        _field("crop_left", pa.int32(), "left edge of the released square", "px, native frame"),
        _field("crop_top", pa.int32(), "top edge of the released square", "px, native frame"),
        _field(
            "crop_side",
            pa.int32(),
            "side of the released square; null: the whole photograph (intraoral)",
            "px, native frame",
        ),
        _field("core", pa.large_binary(), "preserved area less its band, in the crop's grid: 8-bit PNG, 255 inside"),
        _field("band", pa.large_binary(), "band at the area's inner edge, in the crop's grid: 8-bit PNG, 255 inside"),
        _field("core_pixels", pa.int64(), "pixels of the core"),
        _field(
            "text_boxes",
            pa.list_(pa.list_(pa.float32())),
            "text and codes in the pixels that would be released unchanged: four corners (x, y) each, flat (8 values)",
            "px, native frame",
        ),
        *_STATUS,
    ]
)

#: donors → inversion. One row for each photograph that this attempt handles.
DONORS = pa.schema(
    [
        *_PHOTO,
        *_ATTEMPT,
        *_DONOR,
        _field("bank_ids", pa.list_(pa.int32()), "entries of the donor bank that were mixed"),
        _field("weights", pa.list_(pa.float32()), "their weights, summing to 1"),
        _field(
            "w",
            pa.list_(pa.float32()),
            "the donor's w with this photograph's pose and expression (512 values)",
        ),
        _field("sface", pa.list_(pa.float32()), "SFace embedding of the donor's face (128 values, unit length)"),
        _field("likeness", pa.float32(), "SFace cosine to the patient that inversion aims at: that of an impostor"),
        _field(
            "start",
            pa.list_(pa.float32()),
            "W+ code of the attempt before, flat, from which the photograph goes on; null where it starts at w",
        ),
        _field("led_by", pa.list_(pa.string()), "checks that it failed there and that lead it on; null as for start"),
        *_STATUS,
    ]
)

#: The donor bank: synthetic identities drawn by the generator, shipped with the package.
BANK = pa.schema(
    [
        _field("bank_id", pa.int32(), "number of the entry"),
        _field("w", pa.list_(pa.float16()), "latent code w (512 values)"),
        _field("yaw", pa.float32(), "head turn", "degrees"),
        _field("pitch", pa.float32(), "head tilt", "degrees"),
        _field("jaw_open", pa.float32(), "blendshape jawOpen", "0..1"),
        _field("smile", pa.float32(), "mean of blendshapes mouthSmileLeft and mouthSmileRight", "0..1"),
        _field("upper_up", pa.float32(), "mean of blendshapes mouthUpperUpLeft and mouthUpperUpRight", "0..1"),
        _field("pucker", pa.float32(), "blendshape mouthPucker", "0..1"),
        _field(
            "geometry",
            pa.list_(pa.float16()),
            "lips, nose base and jaw: 58 (x, y) pairs, flat",
            "px, aligned",
        ),
        _field("skin", pa.list_(pa.float16()), "CIE Lab of nine skin patches, flat (27 values)"),
        _field("age", pa.float32(), "apparent age", "years"),
        _field("female", pa.float32(), "apparent sex: probability of female", "0..1"),
        _field("glasses", pa.float32(), "whether the face wears glasses, or a part of them", "log-odds"),
        _field("headwear", pa.float32(), "whether the face wears something on its head", "log-odds"),
        _field("clutter", pa.float32(), "natural logarithm of the contrast of the background beside the head"),
        _field("second_face", pa.float32(), "highest score of a second face, whole or cut by the edge", "0..1"),
        _field("sface", pa.list_(pa.float16()), "SFace embedding (128 values, unit length)"),
        _field("dlib", pa.list_(pa.float16()), "dlib embedding (128 values)"),
        _field("facexzoo", pa.list_(pa.float16()), "FaceX-Zoo embedding of the preview (512 values, unit length)"),
    ]
)

#: inversion → blending.
FACES = pa.schema(
    [
        *_PHOTO,
        *_ATTEMPT,
        *_DONOR,
        _field("latent", pa.list_(pa.float32()), "W+ code, flat (n_styles × 512 values)"),
        _field("image", pa.large_binary(), "generated face in the aligned frame (1024² PNG)"),
        _field("loss", pa.float32(), "final value of the objective"),
        _field(
            "core_psnr",
            pa.float32(),
            "agreement with the photograph in the preserved area before blending",
            "dB",
        ),
        _field("latent_distance", pa.float32(), "RMS Mahalanobis distance of the code to the donor's w"),
        *_STATUS,
    ]
)

#: blending → checks, release.
BLENDED = pa.schema(
    [
        *_PHOTO,
        *_ATTEMPT,
        _field("image", pa.large_binary(), "de-identified photograph in the crop's grid: PNG without metadata"),
        _field("seam", pa.float32(), "seam score (see seam): 1 is the untouched photograph, 2 a visible seam"),
        *_STATUS,
    ]
)

#: Clinical measurements of the smile, for source and result; definitions in :mod:`deidlib.checks.smile`.
_SMILE = [
    _field(f"{name}_{which}", pa.float32(), f"{description}, of the {which}", unit)
    for name, description, unit in (
        ("smile_width", "distance between the corners of the mouth", "% of inter-ocular distance"),
        ("lip_line", "height of teeth and gum that shows below the upper lip", "% of inter-ocular distance"),
        ("midline_offset", "middle of the upper lip against the face's midline", "% of inter-ocular distance"),
        ("buccal_corridor", "share of the mouth's inner width without visible teeth", "%"),
        ("cant", "line through the corners of the mouth against the eye line", "degrees"),
    )
    for which in ("source", "result")
]

_CHECK_TYPES = {"float32": pa.float32(), "int32": pa.int32(), "bool": pa.bool_()}

#: checks → outcomes. One row for each photograph that this attempt handled; its checks are those of
#: :data:`deidlib.contract.checks.TABLE`.
CHECKS = pa.schema(
    [
        *_PHOTO,
        *_PATIENT,
        *_ATTEMPT,
        _field("donor_id", pa.string(), "donor of its generated face (DONORS.donor_id); null without one"),
        *_ROUTE,
        *(_field(name, _CHECK_TYPES[kind], text, unit) for name, kind, text, unit in checks.columns()),
        *_SMILE,
        _field(
            "not_applicable",
            pa.list_(pa.string()),
            "checks that do not apply to this photograph's route, or to what it shows: neither passed nor failed",
        ),
        _field("sha256", pa.string(), "SHA-256 of the image that was checked, else null"),
        _field("passed", pa.bool_(), "every check of the gate that applies passed"),
        _field("failed", pa.list_(pa.string()), "names of the checks that failed"),
    ]
)

_REGION = [REGIONS.field(name) for name in ("method", "crop_left", "crop_top", "crop_side", "core_pixels")]

#: outcomes → embeddings, sweep, reid, decide, release, report: what became of each photograph of the sheet, in the
#: sheet's order. It holds what :data:`PHOTOS` says of the photograph, without its pixels.
OUTCOMES = pa.schema(
    [
        *(field for field in PHOTOS if field.name not in ("image", "mask", "status", "reason")),
        _field("status", pa.string(), "passed: it would be released; or quarantined"),
        _field("reason", pa.string(), "reason code of a quarantined photograph (reasons.REASONS), else null"),
        _field("held_at", pa.string(), "where it was held back: intake, face, gate or review; else null"),
        _field("attempt", pa.int32(), "the attempt that would be released, else null"),
        _field("candidate", pa.int32(), "the attempt that passed and that only reviewers hold back, else null"),
        *_ROUTE,
        *_REGION,
        _field("check", pa.struct(list(CHECKS)), "row of checks of the attempt that would be released, else null"),
        _field("tries", pa.list_(pa.struct(list(CHECKS))), "rows of checks of all its attempts, in their order"),
    ]
)

#: embeddings → sweep, reid: the recognisers' embeddings of a shard's photographs, originals and what would be released.
EMBEDDINGS = pa.schema(
    [
        *_PHOTO,
        *_PATIENT,
        _field("attempt", pa.int32(), "attempt that would be released; null for what does not depend on it"),
        _field(
            "shown",
            pa.string(),
            "original (whole photograph), square (its released square), square_region, square_context, released, "
            "released_region, released_context, or donor; _region: the preserved core alone, _context: all the rest",
        ),
        _field(
            "recogniser",
            pa.string(),
            "recogniser of the registry, phash (64 bits of a perceptual hash), or looks (soft biometrics)",
        ),
        _field(
            "embedding",
            pa.list_(pa.float32()),
            "the embedding; null where no face is found; in looks, nan where a value is not measured",
        ),
    ]
)

#: search → reid: what one job counted of the searches over the whole cohort (:mod:`deidlib.reid.ranking`).
SEARCHES = pa.schema(
    [
        _field("search", pa.string(), "recogniser, rendering of the probes, and of the gallery; or kind of look"),
        _field("row", pa.int64(), "place of the probe among all of its kind, from 0"),
        _field("alone", pa.float64(), "rank of the patient's most alike original"),
        _field("crowd", pa.float64(), "the same with other people in the gallery"),
        _field("other", pa.float64(), "as alone, without the photograph that the probe was made of; inf: none"),
        _field("mate", pa.float32(), "score of that original (a distance has a minus sign)"),
        _field("other_mate", pa.float32(), "the same, without the photograph that the probe was made of; -inf: none"),
        _field("impostor", pa.float32(), "score of the most alike original of another patient; -inf: none"),
        _field("crowd_impostor", pa.float32(), "the same with other people in the gallery; -inf: none"),
    ]
)

#: examine → report: what one job found in the images of a finished release (:mod:`deidlib.release.verify`).
EXAMINED = pa.schema(
    [
        _field("path", pa.string(), "path in the release"),
        _field("bytes", pa.int64(), "size of the file", "byte"),
        _field("sha256", pa.string(), "SHA-256 of the file; empty where it cannot be read"),
        _field("width", pa.int32(), "image width; null where the file is no image", "px"),
        _field("height", pa.int32(), "image height; null where the file is no image", "px"),
        _field("problems", pa.list_(pa.string()), "what an image of a release may not hold"),
    ]
)

#: The private link between sheet and release.
CROSSWALK = pa.schema(
    [
        _field("patient_id", pa.string(), "original patient id (identifying)"),
        _field("photo_id", pa.string(), "original photo id (identifying)"),
        *_PATIENT,
        *_PHOTO,
        _field("path", pa.string(), "path in the release folder, null unless released"),
        _field("status", pa.string(), "released or quarantined"),
        _field("reason", pa.string(), "reason code of a quarantined photograph, else null"),
    ]
)

#: The private ledger of what was released: pseudonyms alone, kept for the list of what recipients have to delete.
RELEASED = pa.schema(
    [
        _field("version", pa.string(), "first version that released the photograph"),
        *_PHOTO,
        *_PATIENT,
    ]
)

#: Number of the index's layout, in the file's metadata. Raise it with every change of INDEX: an older deidlib then says
#: that it is too old instead of calling the release damaged. No column is renamed or given another meaning.
INDEX_LAYOUT = 2
LAYOUT_KEY = b"deidlib.layout"

#: The release's index; columns that the configuration lets through are appended to it. It holds no number that was
#: measured on an original: whoever has the originals could measure the same, and find each photograph by its number.
INDEX = pa.schema(
    [
        *_PHOTO,
        *_PATIENT,
        _field("path", pa.string(), "path of the image relative to the release folder"),
        _field("view", pa.string(), "view of the photograph"),
        _field("timepoint", pa.string(), "time point of the photograph"),
        _field(
            "route",
            pa.string(),
            "generate: a generated face around the preserved area; region_only: the preserved area, else neutral grey; "
            "intraoral: the whole photograph",
        ),
        _field("region_method", pa.string(), "preserved area: teeth, mouth, lower_face, mask or whole"),
        _field("attempt", pa.int32(), "attempt that passed the gate, from 0"),
        _field("width", pa.int32(), "image width", "px"),
        _field("height", pa.int32(), "image height", "px"),
        _field("text_free", pa.bool_(), "no text and no code was found in the pixels that are the patient's own"),
        _field("sha256", pa.string(), "SHA-256 of the image file"),
    ]
)

#: Further columns of an index of layout 1: numbers measured on the originals, by which these can be found again.
MEASURED_ON_ORIGINALS = pa.schema(
    [
        _field("core_pixels", pa.int64(), "pixels that are the patient's own, bit-exact"),
        _field("sface_cosine", pa.float32(), "highest SFace cosine similarity to any photograph of the patient"),
        _field("dlib_distance", pa.float32(), "lowest dlib distance to any photograph of the patient"),
        _field("seam", pa.float32(), "seam score: 1 is the untouched photograph, 2 a visible seam"),
    ]
)

#: Number of each layout that is read → its columns.
INDEX_LAYOUTS = {1: pa.schema([*INDEX, *MEASURED_ON_ORIGINALS]), INDEX_LAYOUT: INDEX}


def layout_of(schema: pa.Schema) -> int | None:
    """Number of an index's layout; None where the index does not state it."""
    text = (schema.metadata or {}).get(LAYOUT_KEY, b"").decode("ascii", "replace")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def is_pseudonym(text: str) -> bool:
    """Whether a text has the form of a release id (16 characters of base32, lower case)."""
    return _PSEUDONYM.fullmatch(text) is not None


def from_rows(rows: Iterable[Mapping], schema: pa.Schema) -> pa.Table:
    """Table of ``schema`` from dictionaries; a missing key is null, an unknown key an error."""
    rows = list(rows)
    unknown = {key for row in rows for key in row} - set(schema.names)
    if unknown:
        raise ValueError(f"columns {sorted(unknown)} are not part of the schema {schema.names}")
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


#: A row group holds no more image bytes than this (or one photograph), so that a stage's memory does not grow with
#: its shard: tables with images are written and read in parts.
PART_BYTES = 64 << 20
#: A row group holds no more photographs than this.
PART_ROWS = 64


def write(table: pa.Table, path: Path, schema: pa.Schema) -> None:
    """Write a table whole or not at all (see :mod:`deidlib.storage.sealed`), checked against its schema."""
    with writing(path, schema) as append:
        append(table)


@contextmanager
def writing(
    path: Path, schema: pa.Schema, notes: Callable[[], Mapping[str, str]] | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """Write a table in parts. Each part is written immediately; the file appears whole or not at all.

    ``notes`` gives texts for the file's metadata; it is called at the end.

    Yields
    ------
    callable
        ``append(table)``, checked against the schema.
    """
    with sealed.writing(path, schema, notes) as append_group:

        def append(table: pa.Table) -> None:
            table = table.select(schema.names).cast(schema)
            for part in _parts(table) if "image" in schema.names else [table]:
                append_group(part)

        yield append


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table so that each part stays within PART_BYTES and PART_ROWS."""
    sizes = pc.fill_null(pc.binary_length(table["image"]), 0).to_pylist()
    start = held = 0
    for at, size in enumerate(sizes):
        if at > start and (held + size > PART_BYTES or at - start == PART_ROWS):
            yield table.slice(start, at - start)
            start, held = at, 0
        held += size
    yield table.slice(start)


def read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a table that a stage wrote; a file of another schema is an error that names what differs.

    ``columns`` may name parts of columns, as :meth:`deidlib.storage.sealed.SealedFile.row_group` takes them.

    Raises
    ------
    deidlib.storage.sealed.Damaged
        The file is not what was written.
    """
    with sealed.opened(path) as file:
        names = _fitting(file, path, schema, columns)
        return file.read(columns).select(names)


def read_stage(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a shard's table; a missing or outdated one is an error that names shard and table.

    Raises
    ------
    InputError
        The table is missing, cannot be read, or is of another version of deidlib.
    deidlib.storage.sealed.Damaged
        The file is not what was written.
    """
    where = path.relative_to(path.parents[2] if path.parent.name.startswith("attempt-") else path.parents[1])
    try:
        return read(path, schema, columns)
    except FileNotFoundError:
        raise InputError(f"table {where} is missing: run the workflow, its earlier stages first") from None
    except sealed.Damaged:
        raise
    except OSError as error:
        raise InputError(f"table {where} cannot be read ({error.strerror}): mend that, then run again") from None
    except InputError as error:
        raise InputError(f"shard {where.parts[0]}: {error}") from None


def read_parts(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Read a table part by part, as it was written; see :func:`read`."""
    with sealed.opened(path) as file:
        names = _fitting(file, path, schema, columns)
        for number in range(file.num_row_groups):
            yield file.row_group(number, names).select(names)


def read_where(path: Path, schema: pa.Schema, values: Mapping[str, str], columns: list[str] | None = None) -> pa.Table:
    """Read the rows that hold these values (column → value), and perhaps others: parts that cannot are left out."""
    with sealed.opened(path) as file:
        names = _fitting(file, path, schema, columns)
        groups = [n for n in range(file.num_row_groups) if all(file.may_hold(n, *one) for one in values.items())]
        found = [file.row_group(number, names).select(names) for number in groups]
        return pa.concat_tables(found) if found else pa.schema([schema.field(name) for name in names]).empty_table()


def read_photos(path: Path, schema: pa.Schema, wanted: Collection[str], columns: list[str] | None = None) -> pa.Table:
    """Rows of these photographs (``release_photo_id``); only the parts of the file that hold any are read."""
    ids, found = pa.array(list(wanted), pa.string()), []
    with sealed.opened(path) as file:
        names = _fitting(file, path, schema, columns)
        for number in range(file.num_row_groups):
            there = pc.is_in(file.row_group(number, ["release_photo_id"])["release_photo_id"], ids)
            if pc.any(there).as_py():
                found.append(file.row_group(number, names).select(names).filter(there))
        return pa.concat_tables(found) if found else pa.schema([schema.field(name) for name in names]).empty_table()


def _fitting(file: sealed.SealedFile, path: Path, schema: pa.Schema, columns: list[str] | None) -> list[str]:
    columns = dict.fromkeys(name.partition(".")[0] for name in columns or schema.names)
    expected = pa.schema([schema.field(name) for name in columns])
    missing = [f.name for f in expected if f.name not in file.schema.names or file.schema.field(f.name).type != f.type]
    if missing:
        raise InputError(
            f"{Path(path).name}: columns {missing} are missing or of another type; the file is from another "
            "version of deidlib. Delete it and run the workflow again."
        )
    return expected.names


def handled(table: pa.Table) -> pa.Table:
    """The rows whose status is ok."""
    return table.filter(pc.equal(table["status"], OK))


def of_routes(table: pa.Table, *routes: str) -> pa.Table:
    """The rows of a table whose ``route`` is one of these (:mod:`deidlib.contract.routes`)."""
    return table.filter(pc.is_in(table["route"], pa.array(routes, pa.string())))
