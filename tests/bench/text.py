"""What the search for text finds of made stamps, what it takes for text in clean pictures, and how long it takes.

Stamps (names, dates, numbers) are drawn over mouths of virtual patients, some with drawn braces, and over drawn
intraoral pictures; every one is random in font, colour, place and background. The same pictures without stamps give the
false alarms; so do those of a folder of photographs, if one is named:

    OMP_NUM_THREADS=1 .venv/bin/python tests/bench/text.py --stamps 40 [--photos FOLDER] [--out FOLDER]

Prints Markdown tables. ``--out`` keeps the pictures whose stamps were missed and those with false alarms.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stamps import FONTS, Stamp, draw_braces, drawn_teeth, stamped

from deidlib.donors.model import donor_model
from deidlib.vision import networks
from deidlib.vision.codes import find_codes
from deidlib.vision.text import LEAST_READABLE, TextFinder

TEXTS = ("Maria Keller", "12.03.1987", "ID 4711-08", "K. Yilmaz", "1987-03-12", "Nguyen", "Pat. 20394", "LUCAS")
DIGITS = ("12 03 1987", "98 3 12", "471108")  # what seven segments can show
COLOURS = ((255, 255, 255), (0, 0, 0), (255, 220, 0), (255, 120, 0), (220, 0, 0), (0, 0, 200), (0, 160, 60))
SIZES, OPACITIES, TURNS = (8, 10, 12, 16, 24, 32, 48, 64), (1.0, 0.6, 0.35), (0, 15, 45, 90, 180, 270)
USUAL = Stamp("", size=20, opacity=1.0)
AROUND = 100  # px searched around a stamp
THRESHOLDS = (0.8, 1.6, 2.4, 3.2)  # one, two, three, four characters at least


@dataclass(frozen=True)
class Clean:
    """A picture without text; stamps go where ``area``, (left, top, right, bottom), is."""

    kind: str
    image: np.ndarray
    area: tuple[int, int, int, int]


def virtual_mouths(people: int) -> Iterator[Clean]:
    """Mouths of virtual patients, smiling and at rest, and the smiles with braces."""
    import torch

    from deidlib.demo import _REST, _SMILE
    from deidlib.donors.bank import to_uint8
    from deidlib.vision.alignment import LIPS_INNER, LIPS_OUTER
    from deidlib.vision.landmarks import FaceLandmarker

    torch.set_num_threads(1)
    network, editor, _ = donor_model("mobilestylegan")
    rng = np.random.default_rng(2306)
    with FaceLandmarker(networks.landmarker_file()) as landmarker:
        for _ in range(people):
            z = torch.from_numpy(rng.standard_normal((1, 512)).astype(np.float32))
            with torch.no_grad():
                w = network.map(z)[0].double().numpy()
            w = editor.prior.mean + 0.7 * (w - editor.prior.mean)
            for name, face in (("mouth, smiling", _SMILE), ("mouth, at rest", _REST)):
                code = editor.follow(w, {"yaw": float(rng.uniform(-10, 10)), "pitch": 2.0, **face})
                with torch.no_grad():
                    styles = torch.from_numpy(code.astype(np.float32)).expand(1, network.n_styles, -1)
                    (image,) = to_uint8(network.synthesise(styles))
                found = landmarker.detect(image)
                if len(found) != 1:
                    continue
                points = found[0].points
                yield _around(name, image, points[LIPS_OUTER])
                if face is _SMILE:
                    braced = image.astype(np.float64)
                    inner = points[LIPS_INNER]
                    (left, top), (right, bottom) = inner.min(axis=0), inner.max(axis=0)
                    x = np.linspace(left + 0.15 * (right - left), right - 0.15 * (right - left), 8)
                    y = top + (0.5 + 0.15 * np.sin(np.linspace(0, np.pi, 8))) * (bottom - top)
                    draw_braces(braced, list(zip(x, y, strict=True)), (right - left) / 320, rng)
                    yield _around("mouth with braces", np.clip(braced, 0, 255).astype(np.uint8), points[LIPS_OUTER])


def _around(kind: str, image: np.ndarray, lips: np.ndarray) -> Clean:
    """The mouth with the context that the search is given in a run (deidlib.regions.text)."""
    (left, top), (right, bottom) = lips.min(axis=0), lips.max(axis=0)
    border = round(0.5 * float(right - left))
    x, y = max(0, round(left) - border), max(0, round(top) - border)
    cut = np.ascontiguousarray(image[y : round(bottom) + border, x : round(right) + border])
    return Clean(kind, cut, (round(left) - x, round(top) - y, round(right) - x, round(bottom) - y))


def clean_pictures(people: int) -> list[Clean]:
    """All that stamps are put on."""
    pictures = list(virtual_mouths(people))
    for seed in range(people):
        for braces in (True, False):
            picture = drawn_teeth(seed=seed, braces=braces)
            height, width = picture.shape[:2]
            area = (width // 8, height // 6, 7 * width // 8, 5 * height // 6)
            pictures.append(Clean("intraoral, drawn" + (", braces" if braces else ""), picture, area))
    return pictures


def drawn_stamp(rng: np.random.Generator, usual: Stamp) -> Stamp:
    """A stamp with a random font, text and colour."""
    known = [name for name, file in FONTS.items() if file.is_file()]
    font = usual.font if usual.font != "sans" else str(rng.choice(known))
    text = str(rng.choice(DIGITS if font == "seven segments" else TEXTS))
    return replace(usual, text=text, font=font, colour=COLOURS[rng.integers(len(COLOURS))])


def put(rng: np.random.Generator, clean: Clean, stamp: Stamp) -> tuple[np.ndarray, np.ndarray, float]:
    """A stamp somewhere in the area: the picture, where the stamp is, and how much it stands out (RMS of levels)."""
    left, top, right, bottom = clean.area
    centre = rng.uniform(left, right), rng.uniform(top, bottom)
    picture, mask = stamped(clean.image, stamp, centre)
    change = np.abs(picture.astype(float) - clean.image).mean(axis=2)[mask]
    return picture, mask, float(np.sqrt((change**2).mean())) if change.size else 0.0


def score(finder: TextFinder, picture: np.ndarray, mask: np.ndarray) -> float:
    """Highest readability of a line that lies on the stamp; searched with what surrounds it, to save time."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows, columns = (slice(max(0, at - AROUND), at + long + AROUND) for at, long in ((top, height), (left, width)))
    picture, mask = np.ascontiguousarray(picture[rows, columns]), mask[rows, columns]
    best = 0.0
    for mark in finder.find(picture):
        covered = np.zeros(mask.shape, np.uint8)
        cv2.fillConvexPoly(covered, np.round(mark.quad).astype(np.int32), 1)
        if (covered[mask] > 0).any():
            best = max(best, mark.score)
    return best


def table(title: str, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """Print one Markdown table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    sys.stdout.flush()


def recalls(scores: list[float]) -> tuple[str, ...]:
    """Share of the stamps found at each threshold."""
    return tuple(f"{sum(one >= least for one in scores)}/{len(scores)}" for least in THRESHOLDS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamps", type=int, default=40, help="stamps of each kind")
    parser.add_argument("--people", type=int, default=20, help="virtual patients")
    parser.add_argument("--photos", type=Path, help="folder of photographs without text, looked at whole")
    parser.add_argument("--only", choices=("clean", "stamps"), help="half of the measurement")
    parser.add_argument("--out", type=Path, help="folder for the pictures that went wrong")
    given = parser.parse_args()
    finder = TextFinder(networks.only("text_detector"), networks.only("text_reader"), least=min(THRESHOLDS))
    pictures = clean_pictures(given.people)
    heads = tuple(f"≥ {least}" for least in THRESHOLDS)

    if given.only != "stamps":
        measure_clean(given, finder, pictures, heads)
    if given.only != "clean":
        measure_stamps(given, finder, pictures, heads)


def measure_clean(given: argparse.Namespace, finder: TextFinder, pictures: list[Clean], heads: tuple[str, ...]) -> None:
    """Print the false alarms."""
    rows, pixels, seconds, code_seconds = [], 0, 0.0, 0.0
    groups = {kind: [clean.image for clean in pictures if clean.kind == kind] for kind in {c.kind for c in pictures}}
    if given.photos:
        files = [file for file in sorted(given.photos.rglob("*")) if file.suffix in (".png", ".jpg")]
        groups["photographs, whole"] = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    for kind, images in sorted(groups.items()):
        highest, codes = [], 0
        for index, image in enumerate(images):
            start = time.process_time()
            marks = finder.find(image)
            middle = time.process_time()
            codes += bool(find_codes(image))
            seconds, code_seconds = seconds + middle - start, code_seconds + time.process_time() - middle
            pixels += image.shape[0] * image.shape[1]
            highest.append(max((mark.score for mark in marks), default=0.0))
            if given.out and highest[-1] >= LEAST_READABLE:
                keep(given.out / f"false-{kind}-{index}-{highest[-1]:.1f}.png", image, marks)
        rows.append((kind, *recalls(highest), f"{max(highest):.2f}", codes))
    table("False alarms: clean pictures with text, by least readability", ("picture", *heads, "highest", "codes"), rows)
    per_megapixel = (f"{spent / pixels * 1e6:.2f}" for spent in (seconds, code_seconds))
    print("\nSeconds of processor a megapixel, for text and for codes:", *per_megapixel)


def measure_stamps(
    given: argparse.Namespace, finder: TextFinder, pictures: list[Clean], heads: tuple[str, ...]
) -> None:
    """Print what is found of the stamps."""
    rng = np.random.default_rng(1987)
    faint = []

    def measure(title: str, column: str, kinds: dict[str, Stamp], among: list[Clean]) -> None:
        made = []
        for name, usual in kinds.items():
            scores = []
            for index in range(given.stamps):
                stamp = drawn_stamp(rng, usual)
                picture, mask, contrast = put(rng, among[rng.integers(len(among))], stamp)
                scores.append(score(finder, picture, mask))
                faint.append((contrast, scores[-1]))
                if given.out and scores[-1] < LEAST_READABLE:
                    keep(
                        given.out / f"missed-{column}-{name}-{index}-{contrast:.0f}.png".replace(" ", "-"), picture, []
                    )
            made.append((name, *recalls(scores)))
        table(title, (column, *heads), made)

    measure("Stamps found, by size of the font", "px", {str(n): replace(USUAL, size=n) for n in SIZES}, pictures)
    measure(
        "Stamps found, by opacity (font of 20 px)",
        "opacity",
        {str(n): replace(USUAL, opacity=n) for n in OPACITIES},
        pictures,
    )
    measure(
        "Stamps found, by turn (font of 20 px)", "degrees", {str(n): replace(USUAL, turn=n) for n in TURNS}, pictures
    )
    fonts = {name: replace(USUAL, font=name) for name, file in FONTS.items() if file.is_file() and name != "sans"}
    measure("Stamps found, by font (20 px)", "font", fonts, pictures)
    for kind in sorted({clean.kind for clean in pictures}):
        among = [clean for clean in pictures if clean.kind == kind]
        measure(f"Stamps found on: {kind}", "px", {"20": USUAL}, among)
    rows = []
    for low, high in ((0, 15), (15, 30), (30, 60), (60, 120), (120, 256)):
        rows.append((f"{low} to {high}", *recalls([found for contrast, found in faint if low <= contrast < high])))
    table("All of them, by how much the stamp stands out (RMS of grey levels)", ("levels", *heads), rows)


def keep(path: Path, picture: np.ndarray, marks: list) -> None:
    """Write a picture that went wrong, with what was found in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = picture.copy()
    for mark in marks:
        cv2.polylines(shown, [np.round(mark.quad).astype(np.int32)], True, (255, 0, 255), 1)
    Image.fromarray(shown).save(path)


if __name__ == "__main__":
    main()
