"""Where torch keeps what it compiles."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from deidlib.compute import keep_compiled

COMPILES = """
import sys
from pathlib import Path

from deidlib.compute import keep_compiled

keep_compiled(Path(sys.argv[1]))
import torch
from torch._dynamo.utils import counters

x = torch.ones(64, requires_grad=True)
torch.compile(lambda x: (x.sin() * x).sum(), fullgraph=True)(x).backward()
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles with a C++ compiler")
def test_a_later_process_uses_what_an_earlier_one_compiled(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)

    def hits_and_misses() -> list[int]:
        command = [sys.executable, "-c", COMPILES, str(tmp_path / "compiled")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [int(count) for count in done.stdout.split()]

    assert hits_and_misses() == [0, 2]  # forward and backward
    assert hits_and_misses() == [2, 0]
    assert stat.S_IMODE((tmp_path / "compiled").stat().st_mode) == 0o700


def test_a_folder_that_the_user_named_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "named"))
    keep_compiled(tmp_path / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "named")
    assert not (tmp_path / "compiled").exists()


def test_a_folder_that_cannot_be_made_leaves_torch_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    (tmp_path / "file").touch()
    keep_compiled(tmp_path / "file" / "compiled")
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
