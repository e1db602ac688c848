"""Content of `bundle.json`: everything about a model but its networks, in words that need no nnU-Net.

What follows from the model folder alone comes from :mod:`nnsam.nnunet.description`.

Sections (JSON; sizes in voxels, spacings in mm, axes in the order of the transposed array unless said otherwise):

- `format`, `format_version`, `files` (name -> SHA-256), `sizes` (name -> bytes; earlier versions wrote none), `digest`:
  filled in by :mod:`nnsam.inference.bundle`. What each field may hold is in :mod:`nnsam.inference.bundle_fields`.
- `kind`: "automatic" (segments images) or "box" (segments what lies in boxes).
- `model`: `trainer`, `plans` (name), `configuration`, `dataset`, `folds` (names), `checkpoint` (file name),
  `parameters` (of one fold's network, without level-set head), `sam_weights` (null, or `kind` "official", "custom" or
  "random", and `sha256`).
- `created` (ISO 8601, UTC), `versions` (of the packages that made the bundle).
- `input`: `channel_names` (from dataset.json), `channels`, `file_ending`, `reader` (nnU-Net's name), `dimensions` (2 or
  3, of the patch).
- `preprocessing`: `transpose_forward`, `transpose_backward` (of 3 axes), `spacing` (the configuration's, 2 or 3
  values), `normalization` (per channel: `scheme`, `use_mask`, `statistics` of the foreground), `resampling` (of `data`
  and `probabilities`: `function`, `order`, `order_z`, `force_separate_z`, `separate_z_anisotropy_threshold`).
- `tiling`: `patch_size`, `step` (share of the patch), `gaussian_sigma` (share of the patch), `mirror_axes` (of the
  patch; null: the model was not trained for mirroring).
- `labels`: `names` (dataset.json's "labels"), `regions_class_order`, `has_regions` (sigmoid outputs instead of
  softmax), `outputs`, `foreground` (label values, without background and ignore label).
- `box`: null, or `prompt`, `spacing` ([y, x] or null), `per_slice_normalization`; see
  :class:`nnsam.prompts.box_model.BoxModelSpec`.
- `networks`: `image_encoder` (null, or `file`, `int8` and `onnx` (null or a file), `size`, `input` "robust" or
  "legacy", see :class:`nnsam.networks.sam_branch.SAMInput` and :class:`nnsam.networks.legacy.LegacyInput`,
  `channels` of the picture), `folds` (per fold: `fold`, `unet`, `int8`, `fused`, `onnx`: files or null). Inputs "patch"
  (B, C[+P], *patch), "embedding" (B, 256, s, s) and "picture" (B, channels, size, size); outputs "logits"
  (B, O, *patch), "embedding".
- `precision`: `auto` ("f32", "bf16" or "int8"), `reason` (a sentence), `candidates` (per precision: `dice` agreement
  of masks with f32, null where nothing was found to compare; `seconds` per patch; `max_difference` and
  `mean_difference` of logits, absolute, of f32 to PyTorch and of the others to f32; `accepted`).
- `parity`: `max_difference`, `mean_difference` (absolute, of logits, OpenVINO f32 to PyTorch f32),
  `relative_difference` (root mean square, relative to that of the logits), `tolerance`, `images` (number of patches),
  `source` (where they come from), `from_images` (false for noise), `pytorch_seconds` per patch.
- `dataset_json`: content of dataset.json.
"""

import datetime
import platform
from collections.abc import Mapping
from typing import Any

from torch import nn

from nnsam.nnunet.model_folder import sam_branch
from nnsam.support.machine import package_version

README = "README.txt"
_COMMANDS = {
    "automatic": "nnsam predict THIS_FOLDER -i IN -o OUT",
    "box": "nnsam segment THIS_FOLDER -i IN --box x0,y0,x1,y1 -o OUT",
}
_PACKAGES = "openvino numpy scipy scikit-image pillow tifffile imagecodecs SimpleITK nibabel rich platformdirs"


def readme_text(manifest: Mapping[str, Any]) -> str:
    """Returns the text for a manifest's model."""
    model, images, precision = manifest["model"], manifest["input"], manifest["precision"]
    weights = model["sam_weights"]
    what = "the object in each given box" if manifest["kind"] == "box" else ", ".join(_classes(manifest))
    channels = ", ".join(str(name) for name in images["channel_names"].values())
    lines = [
        f"A trained segmentation model, exported by nnsam {manifest['versions'].get('nnsam')} for CPUs (OpenVINO).",
        "",
        f"Segments: {what}",
        f"Images: {channels} ({images['file_ending']})",
        f"Model: {model['trainer']}, {model['configuration']}, fold {', '.join(model['folds'])}, of {model['dataset']}",
        *([] if weights is None else [f"SAM weights: {weights['kind']}, SHA-256 {weights['sha256']}"]),
        f"Default precision: {precision['auto']} ({precision['reason']})",
        "",
        "To run it (neither PyTorch nor nnU-Net is needed):",
        "  pip install --no-deps NNSAM   (its checkout, or a wheel made from it)",
        f"  pip install {_PACKAGES}",
        f"  {_COMMANDS[manifest['kind']]}",
        "",
        "bundle.json describes the pre- and post-processing and holds the SHA-256 of every file: edit nothing here.",
    ]
    return "\n".join(lines) + "\n"


def _classes(manifest: Mapping[str, Any]) -> list[str]:
    return [name for name in manifest["labels"]["names"] if name not in ("background", "ignore")]


PACKAGES = ("nnsam", "nnunetv2", "torch", "openvino", "numpy", "nncf")


def complete(
    description: Mapping[str, Any],
    network: Mapping[str, Any],
    *,
    networks: Mapping[str, Any],
    precision: Mapping[str, Any],
    parity: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns a manifest: what the model folder says, and what the networks and their export add.

    Args:
        description: of the model folder, see :func:`nnsam.nnunet.description.describe`.
        network: what :func:`describe_network` says of the first fold's.
        networks: this section.
        precision: this section.
        parity: this section.
    """
    sections = dict(description)
    return {
        "kind": sections.pop("kind"),
        "model": {**sections.pop("model"), **network},
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
        **sections,
        "networks": networks,
        "precision": precision,
        "parity": parity,
    }


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Returns `parameters` and `sam_weights` of the section `model`."""
    branch = sam_branch(network)
    origin = None if branch is None else branch.provenance
    return {
        "parameters": sum(
            parameter.numel()
            for name, parameter in network.named_parameters()
            if not name.startswith("level_set_head.")
        ),
        "sam_weights": None if origin is None else {"kind": origin.kind, "sha256": origin.sha256},
    }


def _versions() -> dict[str, str]:
    found = {name: package_version(name) for name in PACKAGES}
    return {name: number for name, number in found.items() if number} | {"python": platform.python_version()}
