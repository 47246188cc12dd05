"""Files of tensors: safetensors, which holds numbers and texts and nothing that could be run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from deidlib.errors import InputError
from deidlib.storage.atomic import write_file

#: The one entry of the file's metadata: JSON, since safetensors does not keep several in order.
_ENTRY = "deidlib"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping) -> None:
    """Write tensors by name, whole or not at all; the same tensors give the same bytes.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping
        Name → tensor.
    about : mapping
        What the file says of itself, in values that JSON can hold; :func:`read_tensors` gives it back.
    """
    from safetensors.torch import save

    own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_file(path, save(own, {_ENTRY: json.dumps(about, sort_keys=True)}), 0o644)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what :func:`write_tensors` wrote: tensors by name, on the CPU, and what the file says of itself.

    Raises
    ------
    InputError
        The file is damaged, or another program wrote it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ENTRY, "null"))
            # Copied: memory alignment decides how some sums are rounded, and the file's alignment is arbitrary.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError) as error:
        raise InputError(
            f"{path.name} is damaged or no safetensors file ({type(error).__name__}); make it again with "
            "`deidlib weights convert`"
        ) from None
    if not isinstance(about, dict):
        raise InputError(f"{path.name} was not written by `deidlib weights convert`; make it with that")
    return tensors, about
