"""The attacks on a release, their statistics, and the release gate."""
