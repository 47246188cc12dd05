"""Recognisers and face detectors: what an attacker would use, and what the checks use."""
