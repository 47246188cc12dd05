"""What all stages agree on: the routes of a photograph, and the checks that it must pass."""
