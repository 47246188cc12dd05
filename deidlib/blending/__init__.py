"""Blending: the generated face in the photograph's own pixel grid, around the patient's own pixels."""
