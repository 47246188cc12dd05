"""De-identification of dental patient photographs by area-preserving GAN inversion."""
