"""Synthetic identities: how a face is described, the bank of donors, and the choice of one for a patient."""
