"""Train the preview head of :mod:`deidlib.generators.preview` on the generator's own images.

python -m deidlib.training.preview MAPPING.xml SYNTHESIS.xml OUT.npz
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.generators.haar import haar_analysis
from deidlib.generators.mobilestylegan import MobileStyleGAN
from deidlib.generators.preview import PREVIEW_BLOCKS, PREVIEW_STYLE, W_DIM, PreviewHead, random_codes


def _generate_pairs(generator: nn.Module, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Features of 128² and the image at 256² of the same codes."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = generator.features(codes, PREVIEW_BLOCKS)
        return features, F.avg_pool2d(generator.synthesise(codes).float(), 4)


def _start_from_least_squares(head: PreviewHead, features: Tensor, images: Tensor) -> None:
    """Set the linear path to its closed-form optimum and scale the other path's input to unit variance."""
    x = features.float().movedim(1, -1).flatten(0, 2)
    y = haar_analysis(images / 4).movedim(1, -1).flatten(0, 2)
    x1 = torch.cat((x, torch.ones(len(x), 1)), dim=1).double()
    solution = torch.linalg.solve(x1.T @ x1 + 1e-2 * torch.eye(x1.shape[1]), x1.T @ y.double()).float()
    with torch.no_grad():
        head.linear.weight.copy_(solution[:-1].T[:, :, None, None])
        head.linear.bias.copy_(solution[-1])
        head.squeeze.weight.div_(x.std(dim=0)[None, :, None, None])


def train_preview(generator: nn.Module, minutes: float, seed: int = 0, log=print) -> PreviewHead:
    """Train the head for a stated time; a rolling buffer lets each generated pair be used several times."""
    rng = torch.Generator().manual_seed(seed)
    w_mean = generator.map(torch.randn(8192, W_DIM, generator=rng)).mean(0)
    torch.manual_seed(seed)
    head = PreviewHead().to(memory_format=torch.channels_last)
    _start_from_least_squares(head, *_generate_pairs(generator, random_codes(generator, 8, w_mean, rng)))
    slow = [*head.style.parameters(), *head.linear.parameters()]
    fast = [p for module in (head.squeeze, head.conv1, head.conv2, head.to_bands) for p in module.parameters()]
    rates = [5e-5, 1.5e-3]
    optimiser = torch.optim.Adam([{"params": slow}, {"params": fast}], betas=(0.9, 0.99))
    buffer: list[tuple[Tensor, Tensor, Tensor]] = []
    start, step, errors = time.monotonic(), 0, []
    while (elapsed := (time.monotonic() - start) / 60) < minutes:
        fall = 0.5 * (1 + math.cos(math.pi * elapsed / minutes)) + 0.01
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * fall
        codes = random_codes(generator, 2, w_mean, rng)
        features, image = _generate_pairs(generator, codes)
        buffer += [(f.bfloat16(), c[PREVIEW_STYLE], i) for f, c, i in zip(features, codes, image, strict=True)]
        buffer = buffer[-400:]
        for k in range(4):
            newest = k == 0
            picks = [-1, -2] if newest else torch.randint(0, len(buffer), (4,), generator=rng).tolist()
            y, x = (torch.randint(0, 65, (2,), generator=rng)).tolist()
            rows, columns = slice(y, y + 64), slice(x, x + 64)
            inputs = torch.stack([buffer[p][0][:, rows, columns] for p in picks]).to(memory_format=torch.channels_last)
            styles = torch.stack([buffer[p][1] for p in picks])
            target = torch.stack([buffer[p][2][:, 2 * y : 2 * y + 128, 2 * x : 2 * x + 128] for p in picks])
            with torch.autocast("cpu", torch.bfloat16):
                output = head(inputs, styles)
            error = output.float() - target
            loss = (error.square() + 1e-4).sqrt().mean() + 4 * error.square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if newest:
                errors.append(error.detach().square().mean().item())
        step += 1
        if step % 50 == 0:
            psnr = 10 * math.log10(4 / (sum(errors[-50:]) / 50))
            log(f"{elapsed:5.1f} min  {2 * step} images  PSNR on new images {psnr:.2f} dB")
    return head


def main() -> None:
    """Train the head and write it (the module's docstring says how)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mapping", type=Path)
    parser.add_argument("synthesis", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=40.0)
    arguments = parser.parse_args()
    generator = MobileStyleGAN(arguments.mapping, arguments.synthesis).to(memory_format=torch.channels_last)
    head = train_preview(generator, arguments.minutes, log=lambda line: print(line, flush=True))
    np.savez(arguments.out, **{name: value.half().numpy() for name, value in head.state_dict().items()})


if __name__ == "__main__":
    main()
