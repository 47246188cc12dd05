"""One module for each file format: which files are accepted, how damage is found, and how the picture is decoded."""
