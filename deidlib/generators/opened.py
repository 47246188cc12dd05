"""Opens the generators of the registry."""

from __future__ import annotations

from deidlib.errors import InputError
from deidlib.generators import build_mobilestylegan, build_stylegan2
from deidlib.logs import say
from deidlib.models import files, preview_file
from deidlib.storage.tensors import read_tensors


def generator(name: str):
    """Open a generator, ``mobilestylegan`` or ``stylegan2``, on the CPU."""
    if name == "mobilestylegan":
        return build_mobilestylegan(files(name), preview_file(name))
    if name != "stylegan2":
        raise InputError(f"generator: {name!r} is not known; this version has mobilestylegan and stylegan2")
    (path,) = files(name).values()
    return build_stylegan2(*read_tensors(path), preview_file(name))


def fit_preview(name: str, network) -> None:
    """Fit the preview of a StyleGAN2 generator and write it next to the checkpoint; the default's is shipped."""
    if name != "stylegan2" or network.own_resolution <= 256:
        return
    from deidlib.generators.running_rgb import LEAST_PSNR, fit_running_rgb, save_running_rgb, use_running_rgb

    estimate = fit_running_rgb(network)
    save_running_rgb(estimate, preview_file(name))
    use_running_rgb(network, preview_file(name))
    verdict = "used" if estimate.psnr >= LEAST_PSNR else "too low: previews are reduced whole images, which is slower"
    say(f"preview: {estimate.psnr:.1f} dB, {verdict}")
