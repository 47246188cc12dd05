"""The demo cohort: virtual patients drawn by the generator, one public-domain portrait, and files that are refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from deidlib.donors.bank import to_uint8
from deidlib.donors.edit import Editor
from deidlib.generators import Generator

N_VIRTUAL = 6
_SEED = 1804  # not the donor bank's
_TRUNCATION = 0.7
_REST = {"smile": 0.02, "upper_up": 0.02, "jaw_open": 0.01, "pucker": 0.05}
_SMILE = {"smile": 0.85, "upper_up": 0.6, "jaw_open": 0.03, "pucker": 0.0}
_YAWS = (0.0, -6.0, 5.0, 8.0, -3.0, -10.0)
_NAMES = ("Ada Example", "Ben Example", "Cem Example", "Dora Example", "Eva Example", "Finn Example")
# Entries of the sheet for the six people that the seed above draws, judged by eye.
_AGES = (29, 33, 47, 38, 27, 24)
_SEXES = ("F", "M", "M", "M", "F", "F")


def virtual_patients(
    generator: Generator, editor: Editor, count: int = N_VIRTUAL
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rest and smile of the first ``count`` virtual patients: the same code, moved along the bank's directions.

    Returns
    -------
    list of (ndarray, ndarray)
        Rest and smile, (1024, 1024, 3) uint8.
    """
    rng = np.random.default_rng(_SEED)
    prior = editor.prior
    patients = []
    for k in range(count):
        with torch.no_grad():
            w = generator.map(torch.from_numpy(rng.standard_normal((1, 512)).astype(np.float32)))[0].double().numpy()
        w = prior.mean + _TRUNCATION * (w - prior.mean)
        codes = [
            editor.follow(w, {"yaw": _YAWS[k], "pitch": 2.0, **_REST}),
            editor.follow(w, {"yaw": _YAWS[k] / 2, "pitch": 2.0, **_SMILE}),
        ]
        batch = torch.from_numpy(np.array(codes, np.float32))[:, None].expand(-1, generator.n_styles, -1)
        with torch.no_grad():
            rest, smile = to_uint8(generator.synthesise(batch))
        patients.append((rest, smile))
    return patients


def landscape(side: int = 640, seed: int = 7) -> np.ndarray:
    """A drawn landscape, (side, side, 3) uint8: sky, three ranges of hills, no face."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([150 + 60 * y, 185 + 40 * y, np.full_like(y, 235)], axis=2)
    for depth, colour in enumerate([(120, 140, 150), (80, 115, 90), (50, 85, 45)]):
        phases, sizes = rng.uniform(0, 6.28, 5), rng.uniform(0.01, 0.05, 5)
        ridge = (
            0.45
            + 0.15 * depth
            + sum(s * np.sin((k + 1) * 3 * x + p) for k, (s, p) in enumerate(zip(sizes, phases, strict=True)))
        )
        picture[y > ridge] = colour
    noise = rng.normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _exif(name: str, day: int, orientation: int = 1) -> Image.Exif:
    """EXIF as a camera writes it, with an invented patient name, date and place: something to be removed."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Example Optics", "Dental 100"
    exif[0x0112] = orientation
    exif[0x010E] = f"Patient: {name}"
    exif[0x9C9D] = name.encode("utf-16le")
    exif[0x0132] = f"2024:03:{day:02d} 09:41:00"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "N", (51.0, 30.0, 0.0), "E", (0.0, 7.0, 0.0)
    return exif


def _save(image: np.ndarray, path: Path, name: str, day: int, orientation: int = 1) -> None:
    stored = np.rot90(image, 1) if orientation == 6 else image  # 6: the viewer turns it clockwise
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=93, exif=_exif(name, day, orientation))


def write_demo_cohort(
    folder: Path, generator: Generator, editor: Editor, progress: Callable[[], None] | None = None
) -> Path:
    """Write photographs and sample sheet of the demo cohort.

    Six virtual patients with two photographs each, the portrait that scikit-image ships (NASA, public domain), a
    file that is no image, a landscape, and a photograph without consent; the photographs carry EXIF with an invented
    name, date and place, and one is stored turned by 90°.

    Parameters
    ----------
    folder : Path
        Made where missing.
    generator, editor
        What draws the virtual patients.
    progress : callable, optional
        Called once a patient.

    Returns
    -------
    Path
        The sample sheet, ``samples.tsv``.
    """
    photos = Path(folder) / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    rows = []

    def add(patient: str, photo: str, view: str, age: int | str, sex: str, consent: str, suffix: str = "jpg") -> Path:
        path = photos / f"{photo}.{suffix}"
        rows.append([patient, photo, f"photos/{path.name}", view, "T0", age, sex, consent])
        return path

    for k, (rest, smile) in enumerate(virtual_patients(generator, editor)):
        name, patient, sex = _NAMES[k], f"CASE-{k + 1:03d}", _SEXES[k]
        path = add(patient, f"{patient}-rest", "frontal_rest", _AGES[k], sex, "yes")
        _save(rest, path, name, 3 + k, orientation=6 if k == 1 else 1)
        _save(smile, add(patient, f"{patient}-smile", "frontal_smile", _AGES[k], sex, "yes"), name, 3 + k)
        if k == N_VIRTUAL - 1:
            _save(
                smile[:, ::-1],
                add("CASE-008", "CASE-008-smile", "frontal_smile", "", sex, "no"),
                "Gil Example",
                12,
            )
        if progress:
            progress()
    _save(
        skimage.data.astronaut(),
        add("CASE-007", "CASE-007-smile", "frontal_smile", 42, "F", "yes"),
        "Ivy Example",
        10,
    )
    add("CASE-009", "CASE-009-notes", "", "", "", "yes").write_text("These are notes, not a photograph.\n")
    _save(landscape(), add("CASE-010", "CASE-010-view", "", "", "", "yes"), "Hal Example", 11)

    sheet = Path(folder) / "samples.tsv"
    with open(sheet, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["patient_id", "photo_id", "path", "view", "timepoint", "age", "sex", "consent"])
        writer.writerows(rows)
    return sheet
