"""The columns of the sheet that a release shows: their rules, and k-anonymity over them."""
