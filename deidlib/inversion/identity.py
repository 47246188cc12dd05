"""The identity loss: recognisers lead the generated face away from the patient, and to the donor.

Each recogniser of an ensemble embeds the composite: the generated face with the patient's preserved area in it. A
single network can be satisfied by changes that no other network would notice. So several networks of different kinds
take turns, and each sees crops that are slightly scaled, rotated, shifted, mirrored or softened. The config names the
recognisers of the identity loss; the one that judges is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.embedders.framing import mouth_shown
from deidlib.embedders.lead import LEADS, Lead

SIDE = 112  # px of ArcFace's frame
#: Places of the image's left and right eye, nose tip and mouth corners in that frame, (x, y).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_CROPS = 6  # crops that each recogniser sees in turn
_AT_A_TIME = 2  # recognisers in a step
_TURN, _SIZE, _SHIFT = 5.0, 0.06, 0.03  # largest change of a crop: degrees; share of its size; share of its side
_TOO_LIKE = 4.0  # weight of being too similar to the patient, against being too dissimilar


class Look(NamedTuple):
    """A crop for a recogniser, and the embeddings that the loss compares with."""

    name: str  # of the recogniser
    soft: bool  # whether the crop is softened
    grid: Tensor  # (N, side, side, 2) as :func:`resample` takes it
    patient: Tensor  # (N, D) unit embedding of the photograph
    donor: Tensor  # (N, D) of the donor's face
    likeness: Tensor  # (N,) cosine to the patient that is aimed at


class Ensemble(nn.Module):
    """The recognisers of the identity loss, by name.

    Parameters
    ----------
    networks : mapping
        Name → network; the names are those of :data:`deidlib.embedders.lead.LEADS`.
    """

    def __init__(self, networks: Mapping[str, nn.Module]):
        super().__init__()
        self.names = tuple(networks)
        self.networks = nn.ModuleDict(networks)
        for name in self.names:
            shown = torch.from_numpy(mouth_shown(LEADS[name].framing))
            self.register_buffer(f"shown_{name}", shown[None, None], persistent=False)

    def embed(self, name: str, images: Tensor, grid: Tensor, soft: bool = False) -> Tensor:
        """Unit embeddings, (N, D), of crops of images, (N, 3, S, S) RGB in [−1, 1]."""
        faces = resample(images, grid)
        if soft:
            faces = F.avg_pool2d(faces, 3, stride=1, padding=1, count_include_pad=False)
        return F.normalize(self.networks[name](faces * getattr(self, f"shown_{name}")).float(), dim=1)


def prepare_looks(
    ensemble: Ensemble, photos: Tensor, donors: Tensor, frames: Tensor, likenesses: Tensor, recognised: Tensor
) -> dict[str, list[Look]]:
    """The crops for each recogniser, and the embeddings that the loss compares with.

    Parameters
    ----------
    ensemble : Ensemble
        The recognisers.
    photos, donors : Tensor, (N, 3, S, S)
        Photographs, and the donors' faces, in the aligned frame.
    frames : Tensor, (N, 2, 3)
        Pixels of these images to ArcFace's frame.
    likenesses : Tensor, (N,)
        SFace cosine to the patient that is aimed at. The other recognisers aim at their own cosine between donor and
        patient, within the range of impostors (``LEADS``), since the donor is an impostor who looks like the patient.
    recognised : Tensor, (N,), bool
        Photographs that a recogniser took for the patient: they aim at no more than the impostors' mean.
    """
    looks = {}
    for name in ensemble.names:
        lead = LEADS[name]
        plain, mirrored = (_grid(frames, lead, crop, photos.shape[-1]) for crop in (np.eye(3), _mirror(lead)))
        patient, donor = (
            F.normalize(sum(ensemble.embed(name, images, grid) for grid in (plain, mirrored)), dim=1)
            for images in (photos, donors)
        )
        aim = likenesses if name == "sface" else (patient * donor).sum(1).clamp(lead.impostor, lead.alike)
        aim = torch.where(recognised, aim.clamp(max=lead.impostor), aim)
        looks[name] = [
            Look(name, k % 3 == 2, _grid(frames, lead, crop, photos.shape[-1]), patient, donor, aim)
            for k, crop in enumerate(_crops(lead))
        ]
    return looks


def looks_of_step(looks: Mapping[str, list[Look]], step: int) -> tuple[Look, ...]:
    """The crops of a step: the recognisers take turns, and each recogniser takes its crops in turn."""
    names = list(looks)
    at_a_time = min(_AT_A_TIME, len(names))
    turns = [divmod(step * at_a_time + k, len(names)) for k in range(at_a_time)]
    return tuple(looks[names[which]][crop % _CROPS] for crop, which in turns)


def identity_loss(ensemble: Ensemble, composite: Tensor, looks: tuple[Look, ...]) -> Tensor:
    """Loss, (N,), of a composite, (N, 3, S, S): the mean over the step's recognisers.

    max(4(cos(e, e_patient) − s), s − cos(e, e_patient)) + 1 − cos(e, e_donor), in units of how much impostors differ.
    """
    total = torch.zeros(len(composite), device=composite.device)
    for look in looks:
        embedding = ensemble.embed(look.name, composite, look.grid, look.soft)
        over = (embedding * look.patient).sum(1) - look.likeness
        from_likeness = torch.maximum(_TOO_LIKE * over, -over)
        unit = LEADS[look.name].deviation / LEADS["sface"].deviation
        total = total + (from_likeness + 1 - (embedding * look.donor).sum(1)) / unit
    return total / len(looks)


def _grid(frames: Tensor, lead: Lead, crop: np.ndarray, side: int) -> Tensor:
    framing = lead.framing
    own = frames.new_tensor(crop[:2] @ np.vstack([framing.matrix, [0, 0, 1]]))
    matrices = own[:, :2] @ frames
    matrices = torch.cat([matrices[:, :, :2], matrices[:, :, 2:] + own[:, 2:]], dim=2)
    return sampling_grid(matrices, side, framing.side)


def _mirror(lead: Lead) -> np.ndarray:
    return np.array([[-1.0, 0.0, lead.framing.side - 1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _crops(lead: Lead) -> list[np.ndarray]:
    """Similarities, (3, 3), of a recogniser's frame: the same for every photograph and run."""
    rng, crops = np.random.default_rng(2022), []
    middle = (lead.framing.side - 1) / 2
    for k in range(_CROPS):
        turn, size = np.radians(_TURN * rng.uniform(-1, 1)), 1 + _SIZE * rng.uniform(-1, 1)
        shift = lead.framing.side * _SHIFT * rng.uniform(-1, 1, 2)
        linear = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        about = np.eye(3)
        about[:2] = np.column_stack([linear, middle - linear @ [middle, middle] + shift])
        crops.append(about @ _mirror(lead) if k % 2 else about)
    return crops


def fit_template(points: np.ndarray) -> np.ndarray:
    """Similarity, (2, 3), from the frame of ``points`` to the recogniser's: least squares (Umeyama 1991).

    Parameters
    ----------
    points : ndarray, (5, 2)
        Left and right eye, nose tip, left and right mouth corner as seen in the image.
    """
    x, y = points - points.mean(axis=0), TEMPLATE - TEMPLATE.mean(axis=0)
    scale = np.sum(x * y) / np.sum(x**2)
    turn = np.sum(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]) / np.sum(x**2)
    linear = np.array([[scale, -turn], [turn, scale]])
    return np.column_stack([linear, TEMPLATE.mean(axis=0) - linear @ points.mean(axis=0)])


def sampling_grid(matrices: Tensor, side: int, cropped: int = SIDE) -> Tensor:
    """Sampling grid of a network's frame in an image, for :func:`resample`: (N, cropped, cropped, 2).

    Parameters
    ----------
    matrices : Tensor, (N, 2, 3)
        Pixels of the image to pixels of the network's frame, as :func:`fit_template` gives them. A pixel's centre is at
        its whole-numbered coordinate.
    side : int
        Side of the image in pixels.
    cropped : int
        Side of the network's frame in pixels; by default the recogniser's.
    """
    linear = torch.linalg.inv(matrices[:, :, :2])
    offset = -linear @ matrices[:, :, 2:]
    # grid_sample's coordinates: pixel p of an image of side s lies at (2p + 1) / s − 1.
    theta_linear = linear * (cropped / side)
    centre = linear @ linear.new_full((2, 1), (cropped - 1) / 2) + offset
    theta = torch.cat([theta_linear, (2 * centre + 1) / side - 1], dim=2)
    return F.affine_grid(theta, [len(matrices), 3, cropped, cropped], align_corners=False)


class _Resampled(torch.autograd.Function):
    """Bilinear samples with gradients that are summed in a fixed order; those of torch are not on a GPU."""

    @staticmethod
    def forward(ctx, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.sides = images.shape[2:]
        return F.grid_sample(images, grid, align_corners=False)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,), (height, width) = ctx.saved_tensors, ctx.sides
        x, y = ((grid[..., axis] + 1) * side / 2 - 0.5 for axis, side in ((0, width), (1, height)))
        left, top = x.floor(), y.floor()
        gradient = gradient.permute(0, 2, 3, 1)
        images = gradient.new_zeros(len(gradient), height, width, gradient.shape[3])
        which = torch.arange(len(gradient), device=gradient.device)[:, None, None].expand_as(x)
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                share = torch.where(inside, share_x * share_y, 0).to(gradient.dtype)[..., None]
                place = which, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
                images.index_put_(place, gradient * share, accumulate=True)
        return images.permute(0, 3, 1, 2), None


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples, (N, C, cropped, cropped), of images, (N, C, S, S), at a grid of :func:`sampling_grid`."""
    if images.device.type == "cpu":
        return F.grid_sample(images, grid, align_corners=False)  # on a CPU its order is fixed, and it is faster
    return _Resampled.apply(images, grid)


def crop(images: Tensor, matrices: Tensor, cropped: int = SIDE) -> Tensor:
    """Resample images, (N, 3, S, S), into a network's frame, differentiably; see :func:`sampling_grid`."""
    return resample(images, sampling_grid(matrices, images.shape[-1], cropped))
