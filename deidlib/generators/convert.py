"""Converts a StyleGAN2 checkpoint, in either layout, to safetensors."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from deidlib.generators.checkpoints import read_checkpoint
from deidlib.generators.weights import to_tensors
from deidlib.storage.tensors import write_tensors


def convert_checkpoint(path: Path, out: Path) -> tuple[int, str]:
    """Write the generator of a checkpoint as safetensors.

    The file's metadata hold the layout of its tensors, the side of the image, the clamp, the SHA-256 of the checkpoint,
    and deidlib's version.

    Parameters
    ----------
    path : Path
        NVIDIA's ``.pkl`` or rosinality's ``.pt``. Its first bytes, not its name, decide the layout.
    out : Path
        The file to write.

    Returns
    -------
    int, str
        Side of the network's image in pixels, and the SHA-256 of the file written.

    Raises
    ------
    CheckpointError
        See :func:`deidlib.generators.checkpoints.read_checkpoint`.
    """
    tensors, about = to_tensors(read_checkpoint(path))
    with open(path, "rb") as file:
        source = hashlib.file_digest(file, "sha256").hexdigest()
    write_tensors(out, tensors, about | {"source_sha256": source, "deidlib": version("deidlib")})
    return about["side"], hashlib.sha256(out.read_bytes()).hexdigest()
