"""Face recognisers as differentiable networks: what can lead the inversion. Imports torch and numpy only."""
