"""The models: their registry, and the cache of their files."""

from deidlib.models.cache import cache_folder, compiled_folder, demand_own_file, fetch, files
from deidlib.models.registry import (
    DATA_FOLDER,
    ModelError,
    bank_file,
    load_registry,
    preview_file,
    recognisers,
    shipped_models,
    used_models,
)

__all__ = [
    "DATA_FOLDER",
    "ModelError",
    "bank_file",
    "cache_folder",
    "compiled_folder",
    "demand_own_file",
    "fetch",
    "files",
    "load_registry",
    "preview_file",
    "recognisers",
    "shipped_models",
    "used_models",
]
