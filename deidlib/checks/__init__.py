"""Checks and gate: whether a de-identified photograph may leave the private folder, with the numbers.

Every check runs against the decoded source photograph, not against what an earlier stage says of it (but
for the seam score and the distance of the latent code, which blending and inversion measure). It fails
closed: a check that could not run has no value, and a check without a value fails.
"""

from deidlib.checks.gate import check_photos, gate

__all__ = ["check_photos", "gate"]
