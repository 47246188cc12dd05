"""Text in pictures: a detector marks lines and a reader confirms them, at several sizes and in every direction.

The detector alone is not enough, because it takes a row of teeth for a line of text. So its lines are read, and a line
counts if enough letters or digits are read with high probability. The text that was read may identify somebody and is
never kept.

The networks are PP-OCRv4's (PaddleOCR; Liao et al., *Real-time Scene Text Detection with Differentiable Binarization*,
AAAI 2020, arXiv:1911.08947; Du et al., *SVTR: Scene Text Recognition with a Single Visual Model*, IJCAI 2022,
arXiv:2205.00159).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

#: Lowest probability of a letter that counts; lowest readability of a line that is text: two different letters. Chosen
#: on drawn stamps and on pictures without text: tests/bench/text.py, tests/bench/RESULTS.md.
LEAST_SURE, LEAST_READABLE = 0.8, 1.6

_TILE, _OVERLAP = 1024, 256  # px of a level; most that the detector sees at a time, and overlap of two tiles
_STRIDE = 32  # px; the detector's sides are multiples of it
_ENLARGED = {3: 400_000, 2: 16_000_000}  # enlargement → largest picture, in px, that is enlarged by it
_SMALLEST = 160  # px; longer side of the last level
_PIXEL, _LINE = 0.3, 0.6  # lowest probability of a line's pixels; lowest mean probability of a line
_THINNEST = 3  # px of a level
_GROWN = 1.6  # the detector marks lines too small: a box grows by this factor times area over perimeter
_DETECTOR_MEAN, _DETECTOR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of blue, green and red, in 0–1
_READER_MEAN, _READER_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_READ_HEIGHT, _READ_WIDTHS = 48, (24, 1600)  # px
_ALIKE = dict.fromkeys("OQDGCE69", "0") | dict.fromkeys("IL", "1") | dict.fromkeys("B3日", "8")
_SQUARISH = 1.5  # width over height; up to this ratio a line may also run vertically


@dataclass(frozen=True)
class Mark:
    """Something that should not be in a picture: a line of text, or a code.

    Attributes
    ----------
    quad : ndarray, (4, 2), float32
        Its corners (x, y), in order, in pixels of the picture.
    score : float
        For a line: its different letters and digits, counted and weighted by probability. For a code: infinite.
    """

    quad: np.ndarray
    score: float


def session(model_file: Path) -> onnxruntime.InferenceSession:
    """Open a network on one CPU thread; several cores are used by handling several shards at a time."""
    from deidlib.vision.onnx_graph import in_fewer_passes  # loads onnx, which takes longer than a small picture

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(in_fewer_passes(model_file), options, providers=["CPUExecutionProvider"])


class TextDetector:
    """PP-OCRv4's text detector (DB).

    Parameters
    ----------
    model_file : Path
        ``ch_PP-OCRv4_det_infer.onnx``.
    """

    def __init__(self, model_file: Path):
        self._network = session(model_file)
        self._input = self._network.get_inputs()[0].name

    def probability(self, image: np.ndarray) -> np.ndarray:
        """Probability of each pixel of an RGB uint8 image, (H, W, 3), to lie in a line of text: (H, W), float32."""
        height, width = image.shape[:2]
        padded = cv2.copyMakeBorder(image, 0, -height % _STRIDE, 0, -width % _STRIDE, cv2.BORDER_REPLICATE)
        (made,) = self._network.run(None, {self._input: _planes(padded, _DETECTOR_MEAN, _DETECTOR_STD)})
        return made[0, 0, :height, :width]

    def lines(self, image: np.ndarray) -> list[np.ndarray]:
        """Lines in an image that the network sees as a whole: rotated boxes, (4, 2), in the image's pixels."""
        probability = self.probability(image)
        contours, _ = cv2.findContours((probability > _PIXEL).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        found = []
        for contour in contours:
            centre, (width, height), angle = cv2.minAreaRect(contour)
            if min(width, height) < _THINNEST or _mean_inside(probability, contour) < _LINE:
                continue
            more = _GROWN * width * height / (width + height)
            found.append(cv2.boxPoints((centre, (width + more, height + more), angle)))
        return found


class TextReader:
    """PP-OCRv4's text recogniser (SVTR-LCNet): 6 623 characters, Chinese, Latin letters and digits among them.

    Parameters
    ----------
    model_file : Path
        ``ch_PP-OCRv4_rec_infer.onnx``; the file contains the list of characters.
    """

    def __init__(self, model_file: Path):
        self._network = session(model_file)
        self._input = self._network.get_inputs()[0].name
        characters = self._network.get_modelmeta().custom_metadata_map["character"].split("\n")
        # Class 0 is the blank of CTC, the last one the space.
        shapes = [_shape(character) if character.isalnum() else "" for character in ["", *characters, ""]]
        self._shapes = np.array(shapes)

    def readability(self, line: np.ndarray) -> float:
        """Readability: the different letters and digits in the picture of one line, each weighted by its probability.

        CTC is decoded greedily: a character's weight is the highest probability with which it is the likeliest class.
        Only different characters count, to distinguish text from repeated shapes: brackets on a wire are read as a row
        of zeros.

        Parameters
        ----------
        line : ndarray, (48, W, 3), uint8
            RGB.
        """
        (made,) = self._network.run(None, {self._input: _planes(line, _READER_MEAN, _READER_STD)})
        shapes, sure = self._shapes[made[0].argmax(axis=1)], made[0].max(axis=1)
        read = (float(sure[shapes == shape].max()) for shape in set(shapes) - {""})
        return sum(sorted(one for one in read if one >= LEAST_SURE))


class TextFinder:
    """The search for text in pictures.

    Parameters
    ----------
    detector_file, reader_file : Path
        The networks' files.
    least : float
        Lowest readability of a line that counts.
    """

    def __init__(self, detector_file: Path, reader_file: Path, least: float = LEAST_READABLE):
        self._detector, self._reader, self._least = TextDetector(detector_file), TextReader(reader_file), least

    def find(self, image: np.ndarray) -> list[Mark]:
        """Lines of text in an RGB uint8 image, (H, W, 3), most readable first; of overlapping lines only the best.

        The picture is searched enlarged, at its own size and at ever smaller sizes, so that letters from 8 px to half
        the picture's height are found.
        """
        read = [Mark(quad, self._readability(image, quad)) for quad in self.candidates(image)]
        readable = sorted((mark for mark in read if self._is_text(mark)), key=lambda mark: -mark.score)
        kept: list[Mark] = []
        for mark in readable:
            if not any(_covers(other.quad, mark.quad) for other in kept):
                kept.append(mark)
        return kept

    def candidates(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """The detector's lines of text, teeth among them: quadrilaterals, (4, 2), float32."""
        height, width = image.shape[:2]
        for scale in _scales(height, width):
            size = max(1, round(width * scale)), max(1, round(height * scale))
            level = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
            per_pixel = np.array([size[0] / width, size[1] / height])
            for columns, rows in product(_tiles(size[0]), _tiles(size[1])):
                for quad in self._detector.lines(np.ascontiguousarray(level[rows, columns])):
                    yield ((quad + [columns.start, rows.start] + 0.5) / per_pixel - 0.5).astype(np.float32)

    def _is_text(self, mark: Mark) -> bool:
        """Whether a line is readable enough. A nearly square box needs a third letter, since one bracket fills it."""
        return mark.score >= self._least * (1.5 if _aspect(mark.quad) <= _SQUARISH else 1)

    def _readability(self, image: np.ndarray, quad: np.ndarray) -> float:
        """The highest readability over the directions in which the line may run."""
        line = _straightened(image, quad)
        lines = [line, line[::-1, ::-1]]
        if line.shape[1] <= _SQUARISH * line.shape[0]:
            lines += [_of_reading_height(np.rot90(line, turns)) for turns in (1, 3)]
        return max(self._reader.readability(np.ascontiguousarray(one)) for one in lines)


def _planes(image: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """A network's input, (1, 3, H, W) float32, blue first, of an RGB uint8 image, (H, W, 3)."""
    planes = image.transpose(2, 0, 1)[::-1][None].astype(np.float32, order="C")
    planes /= 255
    planes -= np.array(mean, np.float32).reshape(3, 1, 1)
    planes /= np.array(std, np.float32).reshape(3, 1, 1)
    return planes


def _shape(character: str) -> str:
    """The character that a letter or digit is counted as: without case, and one for those that look alike."""
    return _ALIKE.get(character.upper(), character.upper())


def _scales(height: int, width: int) -> list[float]:
    """Scales at which a picture is searched."""
    scales = [float(scale) for scale, most in _ENLARGED.items() if height * width <= most] + [1.0]
    while scales[-1] / 2 * max(height, width) >= _SMALLEST:
        scales.append(scales[-1] / 2)
    return scales


def _aspect(quad: np.ndarray) -> float:
    """Longer over shorter side of a box."""
    sides = np.hypot(*(quad[1] - quad[0])), np.hypot(*(quad[2] - quad[1]))
    return float(max(sides) / max(min(sides), 1e-3))


def _tiles(length: int) -> list[slice]:
    """Intervals of equal length that cover a side, overlap, and are not longer than a tile."""
    number = max(1, -(-(length - _OVERLAP) // (_TILE - _OVERLAP)))
    long = min(length, -(-(length + (number - 1) * _OVERLAP) // number))
    starts = [round(k * (length - long) / max(1, number - 1)) for k in range(number)]
    return [slice(start, start + long) for start in starts]


def _mean_inside(probability: np.ndarray, contour: np.ndarray) -> float:
    left, top, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.drawContours(inside, [contour - [left, top]], -1, 1, cv2.FILLED)
    return float(probability[top : top + height, left : left + width][inside > 0].mean())


def _straightened(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """The box of a line, rotated to horizontal, (48, W, 3)."""
    first, second = np.hypot(*(quad[1] - quad[0])), np.hypot(*(quad[2] - quad[1]))
    if first < second:
        quad, first, second = np.roll(quad, -1, axis=0), second, first
    width = int(np.clip(round(first / second * _READ_HEIGHT), *_READ_WIDTHS))
    corners = np.array([[0, 0], [width, 0], [width, _READ_HEIGHT], [0, _READ_HEIGHT]], np.float32)
    # Only the box's surroundings are smoothed, and only if the box is reduced.
    left, top = np.clip(np.floor(quad.min(axis=0)).astype(int) - 8, 0, None)
    right, bottom = np.ceil(quad.max(axis=0)).astype(int) + 9
    part = image[top:bottom, left:right]
    if (shrink := second / _READ_HEIGHT) > 1:
        part = cv2.GaussianBlur(part, (0, 0), 0.5 * np.sqrt(shrink**2 - 1) + 1e-3)
    matrix = cv2.getPerspectiveTransform((quad - [left, top]).astype(np.float32), corners)
    return cv2.warpPerspective(
        part, matrix, (width, _READ_HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _of_reading_height(line: np.ndarray) -> np.ndarray:
    width = int(np.clip(round(line.shape[1] * _READ_HEIGHT / line.shape[0]), *_READ_WIDTHS))
    return cv2.resize(np.ascontiguousarray(line), (width, _READ_HEIGHT), interpolation=cv2.INTER_CUBIC)


def _covers(quad: np.ndarray, other: np.ndarray) -> bool:
    """Whether the middle of ``other`` lies in ``quad``."""
    middle = tuple(float(value) for value in other.mean(axis=0))
    return cv2.pointPolygonTest(quad.astype(np.float32), middle, False) >= 0
