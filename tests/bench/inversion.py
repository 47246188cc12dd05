"""The seed method, deidlib's inversion and its prototype on the same photographs, donors and generator, in one run.

make bench
make bench ARGS="--photos SHEET --limit 4 --json FILE"

Baseline: the semantic diffusion of In-Domain GAN Inversion (Zhu et al. 2020, arXiv 2004.00049) as area-preserving
inversion took it over (arXiv 2307.02019): from a single random code, 100 Adam steps at full resolution (rate 0.01,
float32) on W+, squared error and a perceptual distance inside the rectangle around the preserved area, and no
compositing: the generated face is the result. It is timed on fewer steps where --baseline-steps says so, and the
table then gives the time of 100.

Ours: `deidlib invert` and `deidlib blend` with the default configuration. 36 full steps: the same with so many steps,
all of which draw the whole image (ours draw a preview, and the image around the area alone): the prototype that ours
must match in quality. They are as large as ours are; --full-rate says otherwise.

Each method uses the cores as is fastest for it (measured on two): the baseline one photograph after the other with a
thread of torch a core, the others a photograph a core; seconds a photograph are those of the whole divided by their
number. Each method runs in a process of its own, so that its peak memory can be read; loading the networks is not
counted. Without --photos the first virtual patients of the demo cohort are drawn. GPUs: tests/bench/gpu.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn import functional as F

from deidlib import compute
from deidlib.blending.composite import blend_faces, warp_to_square
from deidlib.blending.seam import seam_score
from deidlib.cli.common import stage_options
from deidlib.contract.routes import GENERATE
from deidlib.donors import model
from deidlib.generators import opened
from deidlib.generators.window import window
from deidlib.inversion.networks import inversion_networks
from deidlib.inversion.objective import WORK_SIDE
from deidlib.regions.area import cut_square, fade_weight
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision import networks as vision_networks
from deidlib.vision.alignment import align_photo, matrix_of
from deidlib.vision.landmarks import FaceLandmarker

KEY = b"the same donors in every bench run"[:32]
BASELINE_STEPS, FULL_STEPS, WORKERS = 100, 36, len(os.sched_getaffinity(0))
TITLES = {"baseline": "baseline", "ours": "ours", "full_steps": f"{FULL_STEPS} full steps"}
JUDGES = {"sface_cosine": "SFace", "dlib_distance": "dlib"}
COLUMNS = {
    "seconds_per_photo": "seconds a photograph",
    "steps": "steps",
    "core_psnr_db": "core PSNR before compositing, dB",
    "band_stlpips": "ST-LPIPS in core and band",
    "band_lpips": "LPIPS in core and band",
    "seam": "seam score",
    "sface_cosine": "SFace cosine to the patient",
    "dlib_distance": "dlib distance to the patient",
    "peak_mib": "peak memory, MiB",
}


def demo_sheet(folder: Path) -> Path:
    """Draw the demo cohort; its sample sheet."""
    from deidlib.demo import write_demo_cohort

    network, editor, _ = model.donor_model("mobilestylegan")
    return write_demo_cohort(folder, network, editor)


def stage_tables(sheet: Path, limit: int | None) -> dict[str, pa.Table]:
    """The tables that inversion reads, of the sheet's first ``limit`` photographs that reach it, or of all."""
    from deidlib.donors.choose import choose_donors
    from deidlib.intake.cohort import plan_shards, read_sheet
    from deidlib.intake.photos import intake_photos
    from deidlib.regions.area import preserve_regions
    from deidlib.vision.landmarks import find_landmarks

    (cohort,) = plan_shards(read_sheet(sheet), KEY, 1).values()
    photos = tables.handled(
        intake_photos(cohort.sort_by("row"), sheet.absolute().parent, KEY, stage_options("intake", "{}"))
    )
    settings, views = stage_options("landmarks", "{}"), stage_options("views", "{}")
    landmarks = find_landmarks(photos, vision_networks.landmarker_file(), vision_networks.yunet(), settings, views)
    regions = preserve_regions(photos, landmarks, "mouth", stage_options("regions", "{}"))
    handled = tables.handled(regions)
    generated = handled.filter(pc.equal(handled["route"], GENERATE))
    ids = generated["release_photo_id"].to_pylist()[:limit]
    network, editor, bank = model.donor_model("mobilestylegan")
    looks, settings = model.likenesses(photos, landmarks, ids), stage_options("donors", "{}")
    with FaceLandmarker(vision_networks.landmarker_file()) as landmarker:
        see = model.observer(network, landmarker)
        donors = choose_donors(photos, ids, looks, bank, editor, see, KEY, 0, "per_patient", settings)
    return {"photos": photos, "landmarks": landmarks, "regions": regions, "donors": donors}


def rows(stage: dict[str, pa.Table]) -> list[tuple[dict, dict, dict]]:
    """Photograph, landmarks and region of every photograph that has a donor."""
    of = {
        name: {r["release_photo_id"]: r for r in stage[name].to_pylist()} for name in ("photos", "landmarks", "regions")
    }
    return [tuple(of[name][i] for name in of) for i in stage["donors"]["release_photo_id"].to_pylist()]


def baseline(stage: dict[str, pa.Table], asked: argparse.Namespace) -> dict:
    """Faces of the seed method."""
    from deidlib.embedders.perceptual import STLPIPS

    generator, perceptual = opened.generator("mobilestylegan"), STLPIPS(vision_networks.only("stlpips"))
    rng = torch.Generator().manual_seed(2004)
    faces, todo, start = [], rows(stage), time.perf_counter()
    for photo, landmark, region in todo:
        image, matrix = decode_png(photo["image"]), matrix_of(landmark)
        side = generator.resolution
        target = torch.from_numpy(align_photo(image, matrix, side)).permute(2, 0, 1)[None].float() / 127.5 - 1
        area = _in_aligned(decode_png(region["core"]) / 255, region, matrix, side)
        y, x = np.nonzero(area > 0.5)
        box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
        target = target[:, :, box[0], box[1]]
        with torch.no_grad():
            w = generator.map(torch.randn(1, generator.w_dim, generator=rng))[:, None].repeat(1, generator.n_styles, 1)
            wanted = perceptual.features(target)
        w.requires_grad_(True)
        optimiser = torch.optim.Adam([w], lr=0.01)
        for _ in range(asked.baseline_steps):
            drawn = generator.synthesise(w)[:, :, box[0], box[1]]
            loss = F.mse_loss(drawn, target) + perceptual.distance(perceptual.features(drawn), wanted).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            face = ((generator.synthesise(w)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        square = region["crop_left"], region["crop_top"], region["crop_side"]
        faces.append((face, warp_to_square(face, matrix, *square)))
    seconds = (time.perf_counter() - start) / len(todo) * BASELINE_STEPS / asked.baseline_steps
    wording = f"{BASELINE_STEPS} full"
    if asked.baseline_steps != BASELINE_STEPS:
        wording += f" (the faces are those after {asked.baseline_steps})"
    return {"faces": faces, "seconds": seconds, "steps": BASELINE_STEPS, "wording": wording, "peak": _peak()}


def ours(stage: dict[str, pa.Table], _: argparse.Namespace) -> dict:
    """Faces of the inversion and blending stages."""
    settings = stage_options("inversion", "{}")
    return _inverted(stage, settings)


def full_steps(stage: dict[str, pa.Table], asked: argparse.Namespace) -> dict:
    """Faces of the same stages, where every step draws the full image."""
    settings = stage_options("inversion", "{}")
    settings |= {"steps": FULL_STEPS, "learning_rate": asked.full_rate * settings["learning_rate"]}
    return _inverted(stage, settings, whole=True)


class WholeImages(torch.nn.Module):
    """The generator, drawing the whole image in every step."""

    def __init__(self, generator: torch.nn.Module):
        super().__init__()
        self.inner, self.n_styles, self.w_dim = generator, generator.n_styles, generator.w_dim
        self.synthesise, self.preview = generator.synthesise, generator.preview

    def close_up(self, w: torch.Tensor, corners: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The image shrunk to 256², and a part of it shrunk to 512²."""
        drawn = self.synthesise(w)
        return F.avg_pool2d(drawn, 4), window(F.avg_pool2d(drawn, 2), corners, side)


def _inverted(stage: dict[str, pa.Table], settings: dict, whole: bool = False) -> dict:
    from deidlib.inversion.faces import invert_faces

    compute.pin_order()
    networks = inversion_networks("mobilestylegan", torch.device("cpu"))
    if whole:
        networks = networks._replace(generator=WholeImages(networks.generator))
    others, start = (stage["photos"], stage["landmarks"], stage["regions"]), time.perf_counter()
    made = pa.concat_tables(invert_faces([(*others, stage["donors"])], networks, settings, WORKERS))
    blended = blend_faces(*others, made, stage_options("blending", "{}"))
    seconds = (time.perf_counter() - start) / len(made)
    faces = [
        tuple(decode_png(image.as_py()) for image in images)
        for images in zip(made["image"], blended["image"], strict=True)
    ]
    steps, wording = settings["steps"], f"{settings['steps']}{' full' if whole else ''}"
    return {"faces": faces, "seconds": seconds, "steps": steps, "wording": wording, "peak": _peak()}


def _in_aligned(map_: np.ndarray, region: dict, matrix: np.ndarray, side: int) -> np.ndarray:
    to_square = matrix - np.array([[0, 0, region["crop_left"]], [0, 0, region["crop_top"]]])
    return align_photo(map_.astype(np.float32), to_square, side, border=0)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(stage: dict[str, pa.Table], made: dict) -> tuple[dict, dict[str, int]]:
    """Means over the photographs, by the same code for every method; how many could not be compared by a recogniser.

    A mean is over those photographs that have a value, None where none has.
    """
    from deidlib.embedders.perceptual import STLPIPS, plain_lpips

    plain = plain_lpips(spatial=True)
    perceptual, judges = (
        STLPIPS(vision_networks.only("stlpips")),
        (vision_networks.sface(vision_networks.yunet()), vision_networks.dlib_resnet()),
    )
    found = {name: [] for name in COLUMNS}
    for (photo, landmark, region), (face, result) in zip(rows(stage), made["faces"], strict=True):
        image, matrix = decode_png(photo["image"]), matrix_of(landmark)
        square, inside = cut_square(image, region["crop_left"], region["crop_top"], region["crop_side"])
        core, band = decode_png(region["core"]), decode_png(region["band"])
        source = align_photo(image, matrix, WORK_SIDE)
        drawn = align_photo(face, np.eye(2, 3), WORK_SIDE)
        area = _in_aligned(core / 255, region, matrix, WORK_SIDE) > 0.5
        error = np.mean((source[area].astype(float) - drawn[area]) ** 2)
        near = torch.from_numpy(_in_aligned(fade_weight(core, band, inside) > 0, region, matrix, WORK_SIDE))[None, None]
        pair = [torch.from_numpy(a).permute(2, 0, 1)[None].float() / 127.5 - 1 for a in (source, drawn)]
        with torch.no_grad():
            found["band_stlpips"].append(perceptual.distance(*map(perceptual.features, pair), near).item())
            if plain is not None:
                found["band_lpips"].append(((plain(*pair) * near).sum() / near.sum()).item())
        found["core_psnr_db"].append(10 * np.log10(255**2 / error))
        found["seam"].append(seam_score(result, square, core, band))
        for name, judge in zip(JUDGES, judges, strict=True):
            embeddings = judge.embed(image), judge.embed(result)
            found[name].append(None if any(e is None for e in embeddings) else judge.compare(*embeddings))
    of_run = {"seconds_per_photo": made["seconds"], "steps": made["steps"], "peak_mib": made["peak"]}
    row = {name: of_run[name] if name in of_run else mean_of_known(found[name]) for name in COLUMNS}
    return row, {name: found[name].count(None) for name in JUDGES}


def mean_of_known(values: list[float | None]) -> float | None:
    """Mean of the values that are not None; None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def main() -> None:
    """Run the methods and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="sample sheet; by default the demo cohort is drawn")
    parser.add_argument("--limit", type=int, help="photographs (default: all of --photos, 2 of the demo cohort)")
    parser.add_argument(
        "--baseline-steps", type=int, default=BASELINE_STEPS, help=f"steps really run (default: all {BASELINE_STEPS})"
    )
    parser.add_argument(
        "--without-full", action="store_true", help=f"leave out the {FULL_STEPS} full steps (a minute a photograph)"
    )
    parser.add_argument("--full-rate", type=float, default=1.0, help="factor on their learning_rate (default: 1)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--sheet", type=Path, help="picture to write: photograph, then each method's (private)")
    asked = parser.parse_args()
    limit = asked.limit if asked.photos or asked.limit else 2
    with tempfile.TemporaryDirectory() as folder:
        stage = stage_tables(asked.photos or demo_sheet(Path(folder)), limit)
    spawn = multiprocessing.get_context("spawn")
    figures, missing, results = {}, {}, {}
    for method in (baseline, ours) if asked.without_full else (baseline, ours, full_steps):
        name = method.__name__
        with spawn.Pool(1) as pool:
            results[name] = pool.apply(method, (stage, asked))
        figures[name], missing[name] = measure(stage, results[name])
    wording = {name: made["wording"] for name, made in results.items()}
    print("\n".join(report(figures, wording, missing, len(stage["donors"]))))
    if asked.json:
        text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
        asked.json.write_text(text + "\n", encoding="utf-8")
    if asked.sheet:
        _write_sheet(stage, results, asked.sheet)


def report(figures: dict[str, dict], wording: dict[str, str], missing: dict[str, dict[str, int]], n: int) -> list[str]:
    """Lines of the table, and what has to be known beside it."""

    def text(method: str, name: str) -> str:
        value = figures[method][name]
        if name == "steps":
            return wording[method]
        if value is None:
            return "absent (its AlexNet is not in torch's cache)" if name == "band_lpips" else "none"
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"

    lines = [f"| means over {n} photographs, {WORKERS} cores | {' | '.join(TITLES[method] for method in figures)} |"]
    lines.append("|---" * (1 + len(figures)) + "|")
    for name, title in COLUMNS.items():
        lines.append(f"| {title} | {' | '.join(text(method, name) for method in figures)} |")
    seconds = {method: row["seconds_per_photo"] for method, row in figures.items()}
    for method in (name for name in figures if name != "ours"):
        lines.append(f"\nOurs is {seconds[method] / seconds['ours']:.1f} times as fast as {TITLES[method]}.")
    counts = (
        f"{judge}: " + ", ".join(f"{missing[method][name]} ({TITLES[method]})" for method in figures)
        for name, judge in JUDGES.items()
    )
    lines.append(f"No face was found in photograph or result, of {n}: {'; '.join(counts)}.")
    lines.append("Not measured: a GPU. All of this ran on the CPU; for GPUs there is tests/bench/gpu.py.")
    return lines


def _write_sheet(stage: dict[str, pa.Table], results: dict, path: Path) -> None:
    import cv2

    lines = []
    for k, (photo, _, region) in enumerate(rows(stage)):
        square, _ = cut_square(decode_png(photo["image"]), region["crop_left"], region["crop_top"], region["crop_side"])
        images = [square, *(made["faces"][k][1] for made in results.values())]
        lines.append(np.hstack([cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA) for image in images]))
    cv2.imwrite(str(path), np.vstack(lines)[:, :, ::-1])


if __name__ == "__main__":
    main()
