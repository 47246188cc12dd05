"""Each recogniser judges while the others lead: does what is learned from some hold for one that was never asked?

python tests/bench/leave_one_out.py SHEET FOLDER --led-by sface discriminant --judges dlib

FOLDER (private: it holds what identifies) keeps intake, landmarks and donors, so that a second run begins with the
inversion, and the faces by --name, so that a run goes on, and another blending needs none; a sheet of all faces is
written into it. For each judge: how many released photographs it verifies as the patient at an FMR of 1 % (threshold:
that quantile of the originals' impostor pairs), and how often the patient comes first among the originals, shown
the whole picture, all but the preserved area, or that area alone. With eight patients or more, maps from a result's
embedding to its original's are also learned on one half of the patients and attack the other half, and the other way
round; their false match rate is held among the originals of that half. First attempts only, nothing selected.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch

sys.path[:0] = [str(Path(__file__).resolve().parent)]
from inversion import rows, stage_tables  # noqa: E402

from deidlib import compute  # noqa: E402
from deidlib.blending.composite import blend_faces  # noqa: E402
from deidlib.cli.common import stage_options  # noqa: E402
from deidlib.embedders.lead import LEADS, LED_BY, TRAINED  # noqa: E402
from deidlib.embedders.opened import embedder  # noqa: E402
from deidlib.inversion.networks import inversion_networks  # noqa: E402
from deidlib.regions.area import cut_square, preserve_regions, preserved_area  # noqa: E402
from deidlib.reid.calibration import threshold_at  # noqa: E402
from deidlib.reid.embeddings import Faces, embed_renderings, renderings  # noqa: E402
from deidlib.reid.identification import search  # noqa: E402
from deidlib.reid.maps import LEARNERS  # noqa: E402
from deidlib.reid.pairs import compared  # noqa: E402
from deidlib.reid.parrot import guesses  # noqa: E402
from deidlib.storage import tables  # noqa: E402
from deidlib.storage.images import decode_png  # noqa: E402
from deidlib.vision import networks  # noqa: E402
from deidlib.vision.landmarks import FaceLandmarker  # noqa: E402
from deidlib.vision.recognisers import Recogniser, fit_similarity  # noqa: E402

SHOWN = {"whole": "", "area hidden": "_context", "area alone": "_region"}
FMR = 0.01


class TrainedRecogniser(Recogniser):
    """A recogniser that was trained here, aligned by YuNet's points as an attacker would."""

    def __init__(self, name: str, detector):
        from deidlib.embedders.framing import mouth_shown
        from deidlib.inversion.identity import TEMPLATE

        self.name, self._detector = name, detector
        self._network, self._framing = embedder(name), LEADS[name].framing
        self._shown = mouth_shown(self._framing)[..., None]
        linear, offset = self._framing.matrix[:, :2], self._framing.matrix[:, 2]
        self._places = TEMPLATE @ linear.T + offset

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        faces = self._detector.detect(image)
        return faces[0] if len(faces) else None

    def align(self, image: np.ndarray, face: np.ndarray) -> np.ndarray:
        to_chip = fit_similarity(face[4:14].reshape(5, 2).astype(np.float64), self._places)
        shrink = max(1.0, 1 / np.hypot(*to_chip[:, 0]))
        soft = cv2.GaussianBlur(image, (0, 0), 0.4 * shrink) if shrink > 1.5 else image
        return cv2.warpAffine(
            soft, to_chip, (self._framing.side,) * 2, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )

    def embed_aligned(self, chip: np.ndarray) -> np.ndarray:
        x = (chip.astype(np.float32) / 127.5 - 1) * self._shown
        with torch.no_grad():
            return self._network(torch.from_numpy(x.transpose(2, 0, 1).copy())[None])[0].numpy()


def recogniser(name: str, detector):
    """Open a judge."""
    return TrainedRecogniser(name, detector) if name in TRAINED else networks.recogniser(name, detector)


def cached(folder: Path, sheet: Path) -> dict[str, pa.Table]:
    """Photographs, landmarks and donors, made once."""
    kept = {"photos": tables.PHOTOS, "landmarks": tables.LANDMARKS, "donors": tables.DONORS}
    files = {name: folder / f"{name}.parquet" for name in kept}
    if not all(path.is_file() for path in files.values()):
        stage = stage_tables(sheet, None)
        for name, schema in kept.items():
            tables.write(stage[name], files[name], schema)
    return {name: tables.read(path, kept[name]) for name, path in files.items()}


def judged(judge, stage: dict, results: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """What a recogniser makes of the results, by what it is shown."""
    sign = 1 if judge.same_above else -1
    photos = {row["release_photo_id"]: row for row in stage["photos"].to_pylist()}
    originals = {i: judge.embed(decode_png(photo["image"])) for i, photo in photos.items()}
    gallery = [(photos[i]["release_patient_id"], e) for i, e in originals.items() if e is not None]
    patients = np.array([patient for patient, _ in gallery])

    def scores(probe: np.ndarray) -> np.ndarray:
        return np.array([sign * judge.compare(probe, e) for _, e in gallery])

    matrix = np.stack([scores(e) for _, e in gallery])
    impostors = matrix[np.triu(patients[:, None] != patients[None], 1)]
    threshold = np.quantile(impostors, 1 - FMR)
    found = {name: {"n": 0, "verified": 0, "first": 0, "genuine": []} for name in SHOWN}
    embedded: dict[str, list] = {name: [] for name in SHOWN}
    for photo, _, region in rows(stage):
        i = photo["release_photo_id"]
        area = preserved_area(decode_png(region["core"]), decode_png(region["band"]))
        square, _ = cut_square(decode_png(photo["image"]), region["crop_left"], region["crop_top"], region["crop_side"])
        pictures = renderings(results[i], area)
        for suffix, embedding in embed_renderings(pictures, judge, np.ascontiguousarray(square)):
            (name,) = (n for n, s in SHOWN.items() if s == suffix)
            if embedding is None:
                continue
            own = scores(embedding)
            same = patients == photo["release_patient_id"]
            found[name]["n"] += 1
            found[name]["verified"] += int(own[same].max() >= threshold)
            found[name]["first"] += int(same[own.argmax()])
            found[name]["genuine"].append(sign * float(own[same].max()))
            embedded[name].append((i, photo["release_patient_id"], embedding))
    chance = float(np.mean([np.mean(patients == patient) for patient in patients]))
    summary = {"threshold": sign * float(threshold), "pairs": len(impostors), "chance": chance}
    for name, row in found.items():
        summary[name] = {
            **{key: row[key] for key in ("n", "verified", "first")},
            "mean": float(np.mean(row["genuine"])) if row["genuine"] else None,
        }
    known = as_faces([(i, photos[i]["release_patient_id"], e) for i, e in originals.items() if e is not None])
    for name in ("whole", "area alone"):
        summary[name]["maps"] = learned(as_faces(embedded[name]), known)
    return summary


def as_faces(rows: list[tuple]) -> Faces:
    """(photograph, patient, embedding) of each, as arrays."""
    photos, patients, vectors = zip(*rows, strict=True)
    return Faces(np.array(photos), np.array(patients), np.array(vectors, np.float32))


def learned(released: Faces, originals: Faces) -> dict[str, dict]:
    """What maps that are learned on other patients make of the results: verified at ``FMR``, and rank 1."""
    found = {}
    for number, (name, (_, learn)) in enumerate(LEARNERS.items()):
        folds = guesses(released, originals, learn, np.random.default_rng([1, number]))
        n = verified = first = 0
        for fold in folds:
            scores = fold.mapped.vectors @ fold.originals.vectors.T
            apart = fold.mapped.patients[:, None] != fold.originals.patients[None]
            limit = threshold_at(scores[apart], FMR, same_above=True)
            n += len(fold.mapped)
            verified += int((compared(fold.mapped.vectors, fold.originals.vectors, same_above=True) >= limit).sum())
            first += int((search(fold.mapped, fold.originals, None, same_above=True).ranks <= 1).sum())
        found[name] = {"n": n, "verified": verified, "first": first}
    return found


def measures(stage: dict, results: dict, blended: pa.Table, faces: pa.Table) -> dict[str, float]:
    """Seam, mouth shift and PSNR."""
    from deidlib.checks.measures import mouth_shift

    shifts = []
    with FaceLandmarker(networks.landmarker_file()) as landmarker:
        for photo, _, region in rows(stage):
            result = results[photo["release_photo_id"]]
            square, _ = cut_square(
                decode_png(photo["image"]), region["crop_left"], region["crop_top"], region["crop_side"]
            )
            read = [landmarker.detect_steadily(np.ascontiguousarray(x)) for x in (square, result)]
            if all(len(x) == 1 for x in read):
                shifts.append(mouth_shift(read[0][0].points, read[1][0].points))
    seams, psnr = np.array(blended["seam"].to_pylist(), float), np.array(faces["core_psnr"].to_pylist())
    distance = np.array(faces["latent_distance"].to_pylist())
    return {
        "seam_mean": float(seams.mean()),
        "seam_most": float(seams.max()),
        "seams_above_2": int((seams > 2).sum()),
        "mouth_shift_mean": float(np.mean(shifts)),
        "mouth_shift_most": float(np.max(shifts)),
        "psnr": float(psnr.mean()),
        "latent_distance": float(distance.mean()),
        "latent_distance_most": float(distance.max()),
    }


def write_sheet(stage: dict, results: dict, path: Path, side: int = 320) -> None:
    """Original and result, side by side, four pairs a line."""
    pairs = []
    for photo, _, region in rows(stage):
        square, _ = cut_square(decode_png(photo["image"]), region["crop_left"], region["crop_top"], region["crop_side"])
        pair = [
            cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA)
            for x in (square, results[photo["release_photo_id"]])
        ]
        pairs.append(np.hstack(pair))
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % 4)
    lines = [np.hstack(pairs[k : k + 4]) for k in range(0, len(pairs), 4)]
    cv2.imwrite(str(path), np.vstack(lines)[:, :, ::-1])


def main() -> None:
    """Run and print (see the module's docstring)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="run", help="of the files written into FOLDER")
    parser.add_argument("--limit", type=int, help="photographs to make, of all that are compared with")
    parser.add_argument("--start", type=int, default=0, help="place of the first of these")
    parser.add_argument("--preserve", default="mouth")
    parser.add_argument("--led-by", nargs="+", default=list(LED_BY), choices=list(LEADS))
    parser.add_argument("--judges", nargs="+", default=["sface", "arcface", "facexzoo", "dlib", *TRAINED])
    parser.add_argument("--regions", default="{}", help="settings as JSON")
    parser.add_argument("--inversion", default="{}", help="settings as JSON")
    parser.add_argument("--blending", default="{}", help="settings as JSON")
    asked = parser.parse_args()
    from deidlib.inversion.faces import invert_faces

    compute.pin_order()
    asked.folder.mkdir(mode=0o700, exist_ok=True)
    stage = cached(asked.folder, asked.sheet)
    stage["regions"] = preserve_regions(
        stage["photos"], stage["landmarks"], asked.preserve, stage_options("regions", asked.regions)
    )
    settings = stage_options("inversion", asked.inversion)
    leading = inversion_networks("mobilestylegan", torch.device("cpu"), asked.led_by)
    kept = asked.folder / asked.name
    kept.mkdir(mode=0o700, exist_ok=True)
    stage["donors"] = stage["donors"].slice(asked.start, asked.limit)
    made, seconds = [], []
    for k in range(len(stage["donors"])):
        donor = stage["donors"].slice(k, 1)
        path, begun = kept / f"{asked.start + k}.parquet", time.process_time()
        if not path.is_file():
            parts = [(stage["photos"], stage["landmarks"], stage["regions"], donor)]
            tables.write(pa.concat_tables(invert_faces(parts, leading, settings, 1)), path, tables.FACES)
            seconds.append(time.process_time() - begun)
            print(f"face {asked.start + k}: {seconds[-1]:.1f} core-seconds", flush=True)
        made.append(tables.read(path, tables.FACES))
    faces = pa.concat_tables(made)
    options = stage_options("blending", asked.blending)
    blended = blend_faces(stage["photos"], stage["landmarks"], stage["regions"], faces, options)
    results = dict(
        zip(blended["release_photo_id"].to_pylist(), (decode_png(x) for x in blended["image"].to_pylist()), strict=True)
    )
    write_sheet(stage, results, asked.folder / f"{asked.name}.png")
    report = {
        "core_seconds_a_photo": float(np.median(seconds)) if seconds else None,
        **measures(stage, results, blended, faces),
    }
    report["by_photo"] = {"seam": [round(x, 2) for x in blended["seam"].to_pylist()]}
    detector = networks.yunet()
    for name in asked.judges:
        report[name] = judged(recogniser(name, detector), stage, results)
        row = report[name]
        print(f"{name}: threshold {row['threshold']:.3f} ({row['pairs']} pairs), rank 1 by chance {row['chance']:.2f}")
        for shown in SHOWN:
            cell = row[shown]
            rank = cell["first"] / max(1, cell["n"])
            score = "none" if cell["mean"] is None else f"{cell['mean']:.3f}"
            print(
                f"  {shown:12s} verified {cell['verified']} of {cell['n']}, rank 1 {rank:.2f}, mean {score}", flush=True
            )
            for learner, hits in cell.get("maps", {}).items():
                print(f"    {learner}: verified {hits['verified']} of {hits['n']}, rank 1 {hits['first']}", flush=True)
    print({k: v for k, v in report.items() if not isinstance(v, dict)})
    (asked.folder / f"{asked.name}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
