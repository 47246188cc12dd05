"""One module a file format: what of it is accepted, how damage shows, and its picture as stored with its colour."""
