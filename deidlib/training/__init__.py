"""What rebuilds the shipped weights; no stage imports it."""
