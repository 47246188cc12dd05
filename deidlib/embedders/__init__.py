"""Differentiable face recognisers, for the identity loss of the inversion. Imports torch, numpy and lpips only."""
