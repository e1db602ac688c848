"""Differential geometry of level sets on the pixel grid: gradient, curvature, narrow band. Differentiable torch.

Osher and Sethian, "Fronts propagating with curvature-dependent speed", J. Comput. Phys. 79 (1988); the curvature term
of nnSAM v3 (arXiv 2309.16967v3) compares the curvature of a predicted and a true level set.

All functions take (..., H, W) and treat leading dimensions as a batch. float16 and bfloat16 are computed in float32 and
returned as float32, under autocast as well: differences of neighbouring values need the digits.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nnsam.errors import InputError
from nnsam.geometry.signed_distance import BAND, relative_spacing


def gradient(phi: Tensor, spacing: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
    """Computes central differences, one-sided at the border of the image.

    Args:
        phi: Shape (..., H, W), at least 2x2.
        spacing: (y, x) size of a pixel; differences are per pixel of the same area.

    Returns:
        Derivatives along y and x, each (..., H, W), in units of `phi` per pixel.

    Example:
        >>> d_y, d_x = gradient(torch.arange(12.0).reshape(3, 4))
        >>> d_y[1, 1].item(), d_x[1, 1].item()
        (4.0, 1.0)
    """
    phi = _precise(phi, smallest=2)
    d_y, d_x = torch.gradient(phi, spacing=relative_spacing(spacing), dim=(-2, -1))
    return d_y, d_x


def curvature(
    phi: Tensor, spacing: Sequence[float] | None = None, *, smoothing: float = 0.0, eps: float = 1e-3
) -> Tensor:
    """Computes the curvature of the level lines, kappa = div(grad phi / |grad phi|).

    With phi negative inside, a disk of radius r has curvature 1/r, a half-plane 0, a hole of radius r in a
    large object -1/r. The value at a pixel is that of the level line through the pixel's centre.

    The unit normals are taken at the corners between four pixels, their divergence at the pixel centres: a compact
    3x3 scheme, equivariant under flips and quarter turns, bounded by 2 sqrt(2) per pixel whatever phi is.

    Args:
        phi: Shape (..., H, W), at least 3x3; any monotone function of the signed distance.
        spacing: (y, x) size of a pixel; curvature is per pixel of the same area, see
            :func:`nnsam.geometry.relative_spacing`.
        smoothing: Standard deviation in pixels of a Gaussian applied to `phi` first (border pixels repeated). The
            staircase of a map that was made from a mask needs about 2; errors: :mod:`nnsam.losses.level_set`.
        eps: Slope of `phi` per pixel below which a place counts as flat: the normal is g / sqrt(|g|^2 + eps^2). Flat
            areas have curvature 0 and finite gradients. Keep it well below the slope at the boundary, which is 1 for a
            distance in pixels and 1/band for a squashed one; the normal's relative error is (eps/|g|)^2 / 2.

    Returns:
        Shape (..., H, W), 1/pixel. The outermost pixels, where the scheme is incomplete, are 0.

    Example:
        >>> y, x = torch.meshgrid(torch.arange(31.0) - 15, torch.arange(31.0) - 15, indexing="ij")
        >>> round(curvature(torch.hypot(y, x) - 10)[15, 25].item(), 2)
        0.1
    """
    if not eps > 0:
        raise InputError(f"The slope eps = {eps} has to be positive.")
    phi = _precise(phi, smallest=3)
    height, width = relative_spacing(spacing)
    if smoothing > 0:
        phi = _smooth(phi, smoothing)
    along_y = (phi[..., 1:, :] - phi[..., :-1, :]) / height
    along_x = (phi[..., 1:] - phi[..., :-1]) / width
    g_y = (along_y[..., 1:] + along_y[..., :-1]) / 2
    g_x = (along_x[..., 1:, :] + along_x[..., :-1, :]) / 2
    inverse_norm = torch.rsqrt(g_y * g_y + g_x * g_x + eps * eps)
    n_y, n_x = g_y * inverse_norm, g_x * inverse_norm
    across_y = n_y[..., 1:] + n_y[..., :-1]
    across_x = n_x[..., 1:, :] + n_x[..., :-1, :]
    divergence = (across_y[..., 1:, :] - across_y[..., :-1, :]) / (2 * height)
    divergence = divergence + (across_x[..., 1:] - across_x[..., :-1]) / (2 * width)
    return functional.pad(divergence, (1, 1, 1, 1))


def narrow_band(target_phi: Tensor, width: float, band: float = BAND, *, stencil_radius: int = 1) -> Tensor:
    """Finds the pixels beside the boundary at which a curvature can be compared.

    Args:
        target_phi: Shape (..., H, W): squashed signed distance tanh(d / band), NaN where unknown.
        width: Half-width of the band in pixels: pixels with ``|d| < width``.
        band: The scale that `target_phi` was squashed with, in pixels.
        stencil_radius: Pixels of which a neighbour within this many rows and columns is NaN are left out: 1 for the
            3x3 scheme of :func:`curvature`, more if it smooths (see :func:`stencil_radius`).

    Returns:
        bool, shape (..., H, W). Never true on the outermost pixels, nor anywhere in an empty or full mask.

    Example:
        >>> phi = torch.tanh((torch.arange(8.0) - 3.5) / 8).expand(4, 8)
        >>> narrow_band(phi, width=2)[1].int().tolist()
        [0, 0, 1, 1, 1, 1, 0, 0]
    """
    inside_band = target_phi.abs() < math.tanh(width / band)  # false for NaN
    unknown = torch.isnan(target_phi)
    frame = torch.zeros_like(inside_band)
    frame[..., 1:-1, 1:-1] = True
    if unknown.device.type == "cpu" and not unknown.any():  # elsewhere the question would cost more than the answer
        return inside_band & frame
    touched = _along_both_axes(unknown.float(), torch.ones(2 * stencil_radius + 1, device=unknown.device)) > 0.5
    return inside_band & frame & ~touched


def stencil_radius(smoothing: float) -> int:
    """Returns how many rows and columns away a pixel may be that enters :func:`curvature`.

    Example:
        >>> stencil_radius(0.0), stencil_radius(1.5)
        (1, 6)
    """
    return 1 + _kernel_radius(smoothing)


def _kernel_radius(sigma: float) -> int:
    return math.ceil(3 * sigma) if sigma > 0 else 0


def _smooth(phi: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian, truncated at 3 sigma, border pixels repeated."""
    radius = _kernel_radius(sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=phi.dtype, device=phi.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return _along_both_axes(phi, weights / weights.sum())


def _along_both_axes(maps: Tensor, weights: Tensor) -> Tensor:
    """Filters rows and columns with symmetric `weights`, border pixels repeated.

    As products with banded matrices: on a CPU some 10 times as fast as convolutions of single channels.
    """
    with torch.autocast(maps.device.type, enabled=False):  # it would multiply in half precision
        return _band_matrix(maps.shape[-2], weights) @ maps @ _band_matrix(maps.shape[-1], weights).mT


def _band_matrix(size: int, weights: Tensor) -> Tensor:
    """(size, size) matrix that filters a column of that length."""
    radius = weights.numel() // 2
    rows = torch.arange(size, device=weights.device)[:, None].expand(size, weights.numel())
    columns = (rows + torch.arange(-radius, radius + 1, device=weights.device)).clamp(0, size - 1)
    matrix = torch.zeros(size, size, dtype=weights.dtype, device=weights.device)
    return matrix.index_put_((rows, columns), weights.expand_as(rows), accumulate=True)


def _precise(phi: Tensor, smallest: int) -> Tensor:
    if phi.ndim < 2 or min(phi.shape[-2:]) < smallest:
        raise InputError(
            f"A level set of shape {tuple(phi.shape)} is too small: at least {smallest}x{smallest} pixels."
        )
    return phi if phi.dtype in (torch.float32, torch.float64) else phi.float()
