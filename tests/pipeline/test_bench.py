"""The bench of the two methods runs with the stages as they are, and prints what it promises."""

import json
import subprocess
import sys
from pathlib import Path

from small_cohort import write_cohort

BENCH = Path(__file__).parents[1] / "bench" / "inversion.py"


def test_bench_compares_the_methods(tmp_path):
    write_cohort(tmp_path, patients=1, shards=1)
    figures = tmp_path / "figures.json"
    sheet = tmp_path / "cohort" / "samples.tsv"
    command = [sys.executable, BENCH, "--photos", sheet, "--limit", "1", "--baseline-steps", "1", "--json", figures]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    both = json.loads(figures.read_text())
    keys = [
        "seconds_per_photo",
        "steps",
        "core_psnr_db",
        "band_stlpips",
        "seam",
        "sface_cosine",
        "dlib_distance",
        "peak_mib",
    ]
    assert set(both) == {"baseline", "ours"}
    assert all(set(row) == set(keys) for row in both.values())
    assert both["ours"]["core_psnr_db"] > both["baseline"]["core_psnr_db"]
    assert both["ours"]["seam"] < both["baseline"]["seam"]
    assert "| seconds a photograph |" in done.stdout
