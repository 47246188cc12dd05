"""Inversion: finds a latent code whose image agrees with the patient in the preserved area and the donor elsewhere."""
