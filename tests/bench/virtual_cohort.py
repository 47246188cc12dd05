"""Draw a cohort of virtual patients, one photograph each, for benches that need many people.

python tests/bench/virtual_cohort.py FOLDER --count 200

Each patient is another random code of the generator (not the donor bank's, nor the demo cohort's), turned and posed at
random between rest and smile. Codes whose picture shows no single face are left out. FOLDER/samples.tsv is the sheet.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deidlib import compute
from deidlib.demo import _REST, _SMILE
from deidlib.donors.bank import to_uint8
from deidlib.donors.model import donor_model
from deidlib.vision.landmarks import FaceLandmarker
from deidlib.vision.networks import landmarker_file, yunet

SEED, TRUNCATION, MOST_YAW = 2307, 0.8, 12.0


def main() -> None:
    """Draw and write (see the module's docstring)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    asked = parser.parse_args()
    compute.pin_order()
    generator, editor, _ = donor_model("mobilestylegan")
    detector, rng = yunet(), np.random.default_rng(SEED)
    photos = asked.folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    rows = []
    with FaceLandmarker(landmarker_file()) as landmarker:
        while len(rows) < asked.count:
            z = torch.from_numpy(rng.standard_normal((1, 512)).astype(np.float32))
            share = rng.uniform()
            view = {name: (1 - share) * _REST[name] + share * _SMILE[name] for name in _REST}
            view |= {"yaw": rng.uniform(-MOST_YAW, MOST_YAW), "pitch": rng.uniform(-3, 6)}
            with torch.no_grad():
                w = generator.map(z)[0].double().numpy()
                w = editor.follow(editor.prior.mean + TRUNCATION * (w - editor.prior.mean), view)
                codes = torch.from_numpy(w.astype(np.float32))[None, None].expand(-1, generator.n_styles, -1)
                (image,) = to_uint8(generator.synthesise(codes))
            if len(detector.detect(image)) != 1 or len(landmarker.detect(image)) != 1:
                continue
            name = f"V{len(rows):04d}"
            Image.fromarray(image).save(photos / f"{name}.png")
            rows.append(
                [f"P-{name}", name, f"photos/{name}.png", "yes", "frontal_smile" if share > 0.5 else "frontal_rest"]
            )
    with (asked.folder / "samples.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["patient_id", "photo_id", "path", "consent", "view"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
