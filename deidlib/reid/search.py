"""1:N search with FAISS: exact, and in blocks, so that memory does not grow with probes or gallery."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np

#: Probes and gallery entries that are compared at a time: with 128 values an entry, 2 MB and 134 MB.
PROBE_BLOCK, GALLERY_BLOCK = 4096, 262_144


def nearest(
    probes: np.ndarray, gallery: np.ndarray, k: int, same_above: bool, gallery_block: int = GALLERY_BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` most alike gallery entries of every probe.

    Parameters
    ----------
    probes, gallery : ndarray, (P, D) and (G, D), float32
        Embeddings; the gallery may be a memory map, for one block of it is read at a time.
    k : int
        Length of the candidate lists; at most G is used.
    same_above : bool
        Compare by inner product (of unit vectors: the cosine) or, if False, by Euclidean distance.
    gallery_block : int
        Gallery entries that are in memory at a time.

    Returns
    -------
    scores : ndarray, (P, k), float32
        Cosine or distance, the most alike first.
    entries : ndarray, (P, k), int64
        Their places in the gallery.
    """
    k = int(min(k, len(gallery)))  # FAISS refuses NumPy's integers
    sign = -1.0 if same_above else 1.0  # so that smaller is more alike
    best = np.full((len(probes), k), np.inf, np.float32)
    entries = np.full((len(probes), k), -1, np.int64)
    for start in range(0, len(gallery), gallery_block):
        block = np.ascontiguousarray(gallery[start : start + gallery_block], dtype=np.float32)
        index = (faiss.IndexFlatIP if same_above else faiss.IndexFlatL2)(block.shape[1])
        index.add(block)
        for rows in _blocks(len(probes)):
            found, places = index.search(np.ascontiguousarray(probes[rows], dtype=np.float32), min(k, len(block)))
            both = np.concatenate([best[rows], sign * found], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :k]
            best[rows] = np.take_along_axis(both, order, axis=1)
            entries[rows] = np.take_along_axis(np.concatenate([entries[rows], places + start], axis=1), order, axis=1)
    scores = -best if same_above else np.sqrt(np.maximum(best, 0))
    return scores, entries


def alikeness(probes: np.ndarray, gallery: np.ndarray, same_above: bool) -> np.ndarray:
    """Compare every probe with every gallery entry: cosine or, if not ``same_above``, negative Euclidean distance.

    Parameters
    ----------
    probes, gallery : ndarray, (P, D) and (G, D), float32
        Embeddings.
    same_above : bool
        Whether a higher score of the recogniser is more alike.

    Returns
    -------
    ndarray, (P, G), float32
        More is more alike.
    """
    inner = np.asarray(probes, np.float32) @ np.asarray(gallery, np.float32).T
    if same_above:
        return inner
    inner *= -2
    inner += np.einsum("ij,ij->i", probes, probes)[:, None]
    inner += np.einsum("ij,ij->i", gallery, gallery)
    return np.negative(np.sqrt(np.maximum(inner, 0, out=inner), out=inner), out=inner)


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, PROBE_BLOCK):
        yield slice(start, min(n, start + PROBE_BLOCK))
