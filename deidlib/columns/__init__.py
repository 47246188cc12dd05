"""The released columns of the sheet: their rules, and k-anonymity over them."""
