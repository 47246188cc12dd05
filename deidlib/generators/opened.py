"""Generators of the registry, opened."""

from __future__ import annotations

from deidlib.generators import load_generator
from deidlib.logs import say
from deidlib.models import files, preview_file


def generator(name: str):
    """Open a generator, on the CPU."""
    return load_generator(name, files(name), preview_file(name))


def fit_preview(name: str, network) -> None:
    """Fit the preview of a StyleGAN2 generator and write it beside the checkpoint; the default's is shipped."""
    if name != "stylegan2" or network.own_resolution <= 256:
        return
    from deidlib.generators.running_rgb import LEAST_PSNR, fit_running_rgb, save_running_rgb, use_running_rgb

    estimate = fit_running_rgb(network)
    save_running_rgb(estimate, preview_file(name))
    use_running_rgb(network, preview_file(name))
    verdict = "used" if estimate.psnr >= LEAST_PSNR else "too low: previews are whole images shrunk, which is slower"
    say(f"preview: {estimate.psnr:.1f} dB, {verdict}")
