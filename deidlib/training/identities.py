"""Pictures of virtual people to train recognisers on: each person in several views, drawn by the generator.

A person is a code w. Their views differ in pose, expression, apparent age, glasses, light and colour: the code is moved
along the donor bank's directions with the identity held, and the layers that draw light and colour come from somebody
else. Identity is thus what the first layers of the generator draw and the bank's directions leave alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from deidlib.donors.bank import Bank, to_uint8, truncated_codes
from deidlib.donors.edit import Editor
from deidlib.donors.fit import view_of

VIEWS = 4  # of each person
SIDE = 160  # px of a stored picture
_CUT = slice(16, 240)  # rows and columns of the 256² preview that are stored
_COLOUR = 8, 11  # first layer of those that come from somebody else: the finer ones draw light and colour
_AGES = 8.0  # standard deviation of the change in apparent age, years
_YAW = 28.0  # degrees, at most
_AGE_RANGE = 8.0, 70.0  # years
_GLASSES = 0.15  # share of the views with glasses
_OFFSET = 0.12  # largest RMS offset of a view's layers, in standard deviations of W


def view_codes(w: np.ndarray, others: np.ndarray, editor: Editor, bank: Bank, rng: np.random.Generator) -> np.ndarray:
    """W+ codes of a person's views.

    Parameters
    ----------
    w : ndarray, (512,)
        The person.
    others : ndarray, (VIEWS, 512)
        Whose light and colours the views take.
    editor, bank
        The donor bank and its linear model.
    rng : Generator
        Decides on pose, expression, age, glasses and layers.

    Returns
    -------
    ndarray, (VIEWS, 16, 512)
    """
    codes = []
    for other in others:
        k = rng.integers(len(bank))
        looks = {name: values[k] for name, values in {**bank.scalars, "geometry": bank.geometry}.items()}
        wanted = view_of(looks, jaw=False)
        wanted["yaw"] = np.clip(1.3 * wanted["yaw"], -_YAW, _YAW)  # the bank's faces are nearly frontal
        wanted["age"] = np.clip(_apparent_age(w, editor) + _AGES * rng.normal(), *_AGE_RANGE)
        if rng.random() < _GLASSES:
            wanted["glasses"] = 4.0
        held = tuple(name for name in ("female", "glasses", "identity") if name not in wanted)
        code = np.repeat(editor.move(w, wanted, held)[None], 16, axis=0)
        first = rng.integers(_COLOUR[0], _COLOUR[1] + 1)
        code[first:] = other
        size = rng.uniform(0, _OFFSET)
        codes.append(code + size * rng.standard_normal(code.shape) @ editor.prior.axes.T)
    return np.array(codes)


def _apparent_age(w: np.ndarray, editor: Editor) -> float:
    """Apparent age that the linear model reads from a code."""
    part = editor.parts["age"].start
    read = editor.slope[part] @ (editor.prior.whiten @ (w - editor.prior.mean) - editor.v_mean)
    return float(editor.centre[part] + editor.scale[part] * read)


def draw_people(generator, editor: Editor, bank: Bank, n: int, seed: int) -> Iterator[np.ndarray]:
    """Draw ``n`` people, one after the other: (VIEWS, SIDE, SIDE, 3) uint8 of each."""
    rng = np.random.default_rng((seed, 17))
    codes = truncated_codes(generator, 2 * n, seed).astype(np.float64)
    for k in range(n):
        others = codes[n + rng.integers(n, size=VIEWS)]
        w = torch.from_numpy(view_codes(codes[k], others, editor, bank, rng).astype(np.float32))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            faces = np.concatenate([to_uint8(generator.preview(one)) for one in w.split(1)])
        yield np.stack([cv2.resize(face[_CUT, _CUT], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in faces])


def main() -> None:
    """Draw people into a file (see the module's docstring)."""
    from deidlib.donors.model import donor_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="NumPy file, (people, views, 160, 160, 3) uint8")
    parser.add_argument("--people", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop then, with fewer people")
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator, editor, bank = donor_model("mobilestylegan")
    shape = arguments.people, VIEWS, SIDE, SIDE, 3
    partial = arguments.out.with_suffix(".partial.npy")
    stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    begun, drawn = time.monotonic(), 0
    for pictures in draw_people(generator, editor, bank, arguments.people, arguments.seed):
        stored[drawn] = pictures
        drawn += 1
        if drawn % 100 == 0:
            print(f"{(time.monotonic() - begun) / 60:5.1f} min  {drawn} people", flush=True)
        if time.monotonic() - begun > 60 * arguments.minutes:
            break
    np.save(arguments.out, stored[:drawn])
    partial.unlink()


if __name__ == "__main__":
    main()
