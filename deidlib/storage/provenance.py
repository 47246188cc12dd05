"""What a table was made with: code, locked packages, models, kind of machine; written into the table's metadata.

The text depends on these alone (no clock, no host name, no path), so that the same work gives the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from deidlib import distribution

#: Name of the note in a table's metadata (see :mod:`deidlib.storage.sealed`).
NOTE = "deidlib"
_MODELS: dict[str, list[str]] = {}
_PACKAGES = (
    "numpy",
    "opencv-contrib-python-headless",
    "mediapipe",
    "onnxruntime",
    "dlib-bin",
    "torch",
    "lpips",
    "pyarrow",
)
#: Instruction sets that change how a network's sums are rounded.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def note_model(name: str, checksums: Iterable[str]) -> None:
    """Remember that this process asked for a model's files, with these SHA-256 checksums."""
    _MODELS[name] = sorted(checksums)


def note() -> dict[str, str]:
    """The note on this process: its software, its machine, and the models that it has used so far."""
    made = {
        "software": software(),
        "host": host_kind(),
        "models": dict(sorted(_MODELS.items())),
    }
    return {NOTE: json.dumps(made, sort_keys=True)}


@functools.cache
def code_digest() -> str:
    """SHA-256 of the sorted ``SHA-256  path`` lines of deidlib's code, templates and workflow: which code ran."""
    files = sorted(distribution.code().items())
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.cache
def software() -> dict:
    """Version and digest of deidlib's code, digest of the lock file (null for an installed wheel), main packages."""
    lock = distribution.folder() / "uv.lock"
    return {
        "deidlib": version("deidlib"),
        "code_sha256": code_digest(),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def host_kind() -> dict:
    """What decides how sums are rounded: processor, its instruction sets, threads, and the GPU that was used."""
    kind = {"system": f"{platform.system()} {platform.machine()}", "processor": None, "instructions": []}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "model name":
            kind["processor"] = value
        elif name in ("flags", "Features"):
            kind["instructions"] = [flag for flag in _FLAGS if flag in value.split()]
    torch = sys.modules.get("torch")  # looked up, never imported for this purpose
    if torch is not None:
        kind["threads"] = torch.get_num_threads()
        kind["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
    return kind
