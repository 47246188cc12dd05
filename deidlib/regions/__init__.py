"""Regions: the preserved area of a photograph, its blend band and the released square."""
