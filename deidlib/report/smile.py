"""Clinical measures before and after: how far the released image reads like the original."""

from __future__ import annotations

import numpy as np

#: Measure → (title, unit of the values and of their differences).
TITLES = {
    "smile_width": ("Smile width", "% of inter-ocular distance"),
    "lip_line": ("Lip line", "% of inter-ocular distance"),
    "midline_offset": ("Midline offset", "% of inter-ocular distance"),
    "buccal_corridor": ("Buccal corridor", "% of inner mouth width"),
    "cant": ("Cant", "degrees"),
}
SEED = 2307
RESAMPLES = 2000
_QUANTILES = (0, 2.5, 25, 50, 75, 97.5, 100)


def smile_numbers(name: str, pairs: list[tuple], owners: list[str]) -> dict:
    """Agreement of one measure between originals and released images.

    Parameters
    ----------
    name : str
        A measure of :data:`deidlib.checks.smile.MEASURES`.
    pairs : list of (float or None, float or None)
        Source and result of each photograph.
    owners : list of str
        Whose photograph it is.

    Returns
    -------
    dict
        ``title, unit``; ``n`` photographs of ``patients`` measured in both images, ``not_measured``; ``source`` and
        ``result`` (median each); of the differences, result minus source: ``mean`` with ``ci95`` (bootstrap over
        patients, None for fewer than two), ``limits`` of agreement (mean ± 1.96 standard deviations: Bland and
        Altman 1986; None for fewer than two photographs), ``quantiles`` (0, 2.5, 25, 50, 75, 97.5, 100 %) and
        ``largest`` without its sign. All None where ``n`` is 0.
    """
    title, unit = TITLES[name]
    kept = [(pair, owner) for pair, owner in zip(pairs, owners, strict=True) if None not in pair]
    numbers: dict = {"title": title, "unit": unit, "n": len(kept), "not_measured": len(pairs) - len(kept)}
    patients = sorted({owner for _, owner in kept})
    numbers["patients"] = len(patients)
    empty = ("source", "result", "mean", "ci95", "limits", "quantiles", "largest")
    if not kept:
        return numbers | dict.fromkeys(empty)
    source, result = np.array([pair for pair, _ in kept], dtype=np.float64).T
    difference = result - source
    group = np.searchsorted(patients, [owner for _, owner in kept])
    mean, spread = difference.mean(), difference.std(ddof=1) if len(kept) > 1 else None
    limits = None if spread is None else [mean - 1.96 * spread, mean + 1.96 * spread]
    values = {
        "source": np.median(source),
        "result": np.median(result),
        "mean": mean,
        "ci95": _bootstrap(difference, group, len(patients)),
        "limits": limits,
        "quantiles": np.percentile(difference, _QUANTILES),
        "largest": np.abs(difference).max(),
    }
    return numbers | {key: _rounded(value) for key, value in values.items()}


def _bootstrap(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray | None:
    """95 % interval of the mean over photographs, patients being drawn with replacement."""
    if groups < 2:
        return None
    rng = np.random.default_rng(SEED)
    sums, counts = np.bincount(group, weights=values, minlength=groups), np.bincount(group, minlength=groups)
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(groups, size=groups)
        means[i] = sums[drawn].sum() / counts[drawn].sum()
    return np.percentile(means, [2.5, 97.5])


def _rounded(value):
    """Round to one decimal: somebody with the originals could identify a photograph by an exact extreme."""
    if value is None:
        return None
    return [round(float(item), 1) for item in value] if np.ndim(value) else round(float(value), 1)
