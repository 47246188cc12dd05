"""Drawn stamps and mouths: text burnt into pictures, codes, and teeth with braces, for tests and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_DEBIAN = Path("/usr/share/fonts/truetype")

#: Name → file. The first three come with Matplotlib, the others with Debian (fonts-liberation, fonts-dseg,
#: fonts-dkg-handwriting, fonts-femkeklaver).
FONTS = {
    "sans": _DEJAVU / "DejaVuSans.ttf",
    "serif": _DEJAVU / "DejaVuSerif.ttf",
    "mono bold": _DEJAVU / "DejaVuSansMono-Bold.ttf",
    "narrow": _DEBIAN / "liberation" / "LiberationSansNarrow-Regular.ttf",
    "seven segments": _DEBIAN / "dseg" / "DSEG7Classic-Bold.ttf",
    "handwriting": _DEBIAN / "fifthhorseman" / "dkg.ttf",
    "faint handwriting": _DEBIAN / "femkeklaver" / "femkeklaver.ttf",
}


@dataclass(frozen=True)
class Stamp:
    """How a text is drawn.

    Attributes
    ----------
    text : str
        What it says.
    size : int
        Size of the font in pixels; a capital letter is about 0.73 of it high.
    colour : tuple of int
        RGB.
    opacity : float
        1 covers the picture.
    turn : float
        Degrees, counterclockwise.
    font : str
        A key of :data:`FONTS`.
    """

    text: str
    size: int = 20
    colour: tuple[int, int, int] = (255, 255, 255)
    opacity: float = 1.0
    turn: float = 0.0
    font: str = "sans"


def stamped(image: np.ndarray, stamp: Stamp, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The picture with a text drawn on it, and where: (H, W, 3) uint8 and (H, W) bool."""
    font = ImageFont.truetype(str(FONTS[stamp.font]), stamp.size)
    left, top, right, bottom = font.getbbox(stamp.text)
    layer = Image.new("L", (round(right - left) + 8, round(bottom - top) + 8), 0)
    ImageDraw.Draw(layer).text((4 - left, 4 - top), stamp.text, font=font, fill=255)
    layer = layer.rotate(stamp.turn, expand=True, resample=Image.Resampling.BICUBIC)
    whole = Image.new("L", (image.shape[1], image.shape[0]), 0)
    whole.paste(layer, (round(centre[0] - layer.width / 2), round(centre[1] - layer.height / 2)))
    share = np.asarray(whole, np.float32)[..., None] / 255 * stamp.opacity
    made = image * (1 - share) + np.array(stamp.colour, np.float32) * share
    return np.clip(made + 0.5, 0, 255).astype(np.uint8), share[..., 0] > 0.3 * stamp.opacity


def drawn_teeth(width: int = 900, height: int = 600, seed: int = 0, braces: bool = True) -> np.ndarray:
    """An intraoral picture, drawn: gums, two rows of teeth, and braces (brackets, ligatures, wire), (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    unit = height / 600
    gum = np.array([rng.uniform(170, 210), rng.uniform(95, 125), rng.uniform(100, 130)])
    picture = np.full((height, width, 3), gum)
    picture += cv2.GaussianBlur(rng.normal(0, 60, (height, width, 1)), (0, 0), 12 * unit)[..., None]
    mouth = height // 2
    cv2.ellipse(picture, (width // 2, mouth), (round(0.47 * width), round(14 * unit)), 0, 0, 360, (60, 25, 25), -1)
    ivory = np.array([rng.uniform(215, 240), rng.uniform(205, 228), rng.uniform(175, 205)])
    places = []
    for upper in (True, False):
        tooth_width = (0.105 if upper else 0.085) * width
        for k in range(-4, 4):
            x = width / 2 + (k + 0.5) * tooth_width * (1 - 0.03 * abs(k + 0.5))
            tall = (0.28 - 0.018 * abs(k + 0.5)) * height
            y = mouth + (-tall / 2 if upper else tall / 2 + 6 * unit)
            _tooth(picture, x, y, tooth_width * 0.96, tall, ivory + rng.normal(0, 3))
            places.append((upper, x, y + rng.normal(0, 3 * unit)))
    picture = cv2.GaussianBlur(picture, (0, 0), 1.5 * unit)
    if braces:
        for upper in (True, False):
            row_of = [(x, y) for row, x, y in places if row == upper]
            draw_braces(picture, row_of, unit, rng)
        picture = cv2.GaussianBlur(picture, (0, 0), 0.8 * unit)
    for _ in range(12):  # wet light
        centre = (int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.2, 0.8) * height))
        cv2.ellipse(picture, centre, (round(rng.uniform(2, 8) * unit), round(4 * unit)), 0, 0, 360, (250, 250, 248), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7 * unit) + rng.normal(0, 2.5, picture.shape)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _tooth(picture, x, y, width, height, colour) -> None:
    corners = cv2.ellipse2Poly((round(x), round(y)), (round(width / 2), round(height / 2)), 0, 0, 360, 6)
    middle = np.array([x, y])
    # Between an ellipse and a box.
    square = middle + np.sign(corners - middle) * np.array([width, height]) / 2
    outline = np.round(0.55 * corners + 0.45 * square).astype(np.int32)
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [outline], 255)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(1.0, width / 30))[..., None]
    shade = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), width / 6)[..., None]
    picture[:] = picture * (1 - soft) + (colour * (0.72 + 0.28 * shade)) * soft


def draw_braces(picture: np.ndarray, places: list[tuple[float, float]], unit: float, rng: np.random.Generator) -> None:
    """Draw a bracket at each place (x, y), the ligature around it and the wire through them, 24 px · ``unit`` large."""
    steel = rng.uniform(120, 160)
    line = np.round(places).astype(np.int32)
    cv2.polylines(picture, [line], False, (steel - 50,) * 3, max(2, round(6 * unit)), cv2.LINE_AA)
    cv2.polylines(
        picture, [line - [0, round(1 * unit)]], False, (steel + 80,) * 3, max(1, round(2 * unit)), cv2.LINE_AA
    )
    ligature = rng.choice([[120, 120, 125], [40, 60, 180], [190, 40, 60], [40, 150, 90]])
    for x, y in places:
        side = rng.uniform(20, 24) * unit
        for dx in (-0.4, 0.4):
            for dy in (-0.45, 0.45):
                corner = np.array([x + dx * side - side / 4, y + dy * side - side / 4])
                first, second = np.round(corner).astype(int), np.round(corner + side / 2).astype(int)
                cv2.rectangle(picture, first.tolist(), second.tolist(), (steel,) * 3, -1)
                cv2.rectangle(picture, first.tolist(), second.tolist(), (steel - 60,) * 3, max(1, round(unit)))
        radius = round(0.55 * side)
        cv2.circle(picture, (round(x), round(y)), radius, tuple(float(c) for c in ligature), max(1, round(3 * unit)))
