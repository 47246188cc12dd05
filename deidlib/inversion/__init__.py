"""Inversion: the latent code whose image agrees with the patient in the preserved area and with the donor elsewhere."""
