"""Rebuilds the shipped weights; no stage imports it."""
