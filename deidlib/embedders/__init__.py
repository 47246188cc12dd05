"""Face recognisers as differentiable networks: what can lead the inversion. Imports torch, numpy and lpips only."""
