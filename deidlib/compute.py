"""Where and how torch computes: the device, and the order of its sums."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deidlib.errors import InputError


def device(asked: str) -> str:
    """``cuda`` where it is asked for, or where ``auto`` finds a GPU; else ``cpu``."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is asked for, but no GPU can be used here; set device to auto or cpu")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def pin_order() -> None:
    """Make torch sum in the same order every time, so that the same photograph gives the same bytes.

    On a CPU, torch uses one thread. Two threads are a fifth faster than one; two photographs, or shards, at a time are
    twice as fast on two cores. On a GPU, torch uses its deterministic algorithms.
    """
    import torch

    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads this at its first use
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # it writes memory twice, for debugging alone


def keep_compiled(folder: Path) -> None:
    """Let later jobs use what torch compiles in this one. To be called before torchvision is imported.

    Parameters
    ----------
    folder : Path
        It is made for its owner alone. If it cannot be written, or if TORCHINDUCTOR_CACHE_DIR names another folder,
        torch keeps its own. When its compiler is imported, as torchvision does, torch puts its own into that variable.
    """
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def quiet_native_libraries() -> None:
    """Keep native code from writing to standard error: MediaPipe would fill the logs with its start-up messages."""
    if os.environ.get("DEIDLIB_DEBUG"):
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1)
