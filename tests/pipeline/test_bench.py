"""The benches run with the stages as they are, and print what they promise."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_cohort import write_cohort
from torch import nn

BENCH = Path(__file__).parents[1] / "bench"
KEYS = {
    "seconds_per_photo",
    "steps",
    "core_psnr_db",
    "band_stlpips",
    "band_lpips",
    "seam",
    "sface_cosine",
    "dlib_distance",
    "peak_mib",
}


@pytest.fixture(scope="module")
def benches():
    """The two scripts as modules."""
    sys.path.insert(0, str(BENCH))
    import gpu
    import inversion

    sys.path.remove(str(BENCH))
    return inversion, gpu


@pytest.mark.exhaustive
def test_bench_compares_the_methods(tmp_path):
    write_cohort(tmp_path, patients=1, shards=1)
    figures = tmp_path / "figures.json"
    command = [sys.executable, BENCH / "inversion.py", "--photos", tmp_path / "cohort" / "samples.tsv"]
    command += ["--baseline-steps", "1", "--without-full", "--json", figures]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    both = json.loads(figures.read_text())
    assert set(both) == {"baseline", "ours"}
    assert all(set(row) == KEYS for row in both.values())
    assert both["baseline"]["steps"] == 100
    assert isinstance(both["ours"]["steps"], int)
    assert both["ours"]["core_psnr_db"] > both["baseline"]["core_psnr_db"]
    assert both["ours"]["seam"] < both["baseline"]["seam"]
    assert "| seconds a photograph |" in done.stdout
    assert "Not measured: a GPU" in done.stdout


def test_a_face_that_is_not_found_is_left_out_of_the_mean_and_counted(benches):
    inversion, _ = benches
    assert inversion.mean_of_known([0.5, None, 0.1]) == pytest.approx(0.3)
    assert inversion.mean_of_known([None]) is None
    row = dict.fromkeys(inversion.COLUMNS, 1.0) | {"sface_cosine": None}
    figures = {"baseline": row, "ours": dict.fromkeys(inversion.COLUMNS, 2.0)}
    missing = {"baseline": {"sface_cosine": 3, "dlib_distance": 0}, "ours": {"sface_cosine": 1, "dlib_distance": 0}}
    lines = inversion.report(figures, {"baseline": "100 full", "ours": "22 and 2"}, missing, 3)
    assert "| SFace cosine to the patient | none | 2 |" in lines
    assert any("of 3: SFace: 3 (baseline), 1 (ours); dlib: 0 (baseline), 0 (ours)" in line for line in lines)


def test_flops_and_bytes_are_those_of_a_convolution_and_its_slope(benches):
    _, gpu = benches
    kernel = nn.Conv2d(8, 16, 3, padding=1, groups=2, bias=False).requires_grad_(False)
    x = torch.randn(2, 8, 32, 32, requires_grad=True)
    cost, dtypes = gpu.count(lambda: torch.relu(kernel(x)).sum().backward())
    # Of each of 2 × 16 × 32² results, 4 channels of 3² are multiplied and added; as many going back.
    assert cost.flops == 2 * (2 * 2 * 16 * 32**2 * 4 * 3**2)
    moved = 4 * (2 * 8 * 32**2 + 16 * 4 * 3**2 + 2 * 16 * 32**2)  # operands and result, float32
    assert cost.bytes == 2 * moved
    assert cost.eager_bytes > cost.bytes
    assert dtypes == {"float32"}


def test_views_move_nothing_and_expanded_operands_count_once(benches):
    _, gpu = benches
    row = torch.zeros(1, 1000)
    assert gpu.count(lambda: row.expand(50, -1).T)[0].eager_bytes == 0
    assert gpu.count(lambda: row.expand(50, -1) * 2)[0].eager_bytes == 4 * (1000 + 50 * 1000)


def test_the_floor_is_the_later_of_computing_and_moving(benches):
    _, gpu = benches
    peak = gpu.peak_of("NVIDIA H100 80GB HBM3", None, None)
    assert gpu.floor_seconds(gpu.Cost(989e12, 1e9, 9e99), peak) == pytest.approx(1)
    assert gpu.floor_seconds(gpu.Cost(1e12, 6.7e12, 9e99), peak) == pytest.approx(2)


def test_no_floor_for_a_device_whose_peaks_nobody_gave(benches):
    _, gpu = benches
    assert gpu.peak_of("Some GPU", None, None) is None
    assert gpu.peak_of("Some GPU", 100.0, 2.0) == gpu.Peak(100e12, 2e12)
    with pytest.raises(ValueError, match="give both"):
        gpu.peak_of("NVIDIA H100 80GB HBM3", 100.0, None)


@pytest.mark.exhaustive
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is not measured where there is no GPU")
def test_without_a_gpu_costs_are_counted_and_the_rest_is_said_not_to_be(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, BENCH / "gpu.py", "--options", '{"steps": 2}', "--json", figures]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not measured: no GPU here" in done.stdout
    assert "No floor" in done.stdout
    found = json.loads(figures.read_text())
    assert found["device"] is None
    assert found["measured"] == []
    costs = found["costs"]
    assert costs["photograph"]["flops"] > 2 * costs["step"]["flops"] > 0
    assert all(cost["bytes"] < cost["eager_bytes"] for cost in costs.values() if not math.isclose(cost["bytes"], 0))
