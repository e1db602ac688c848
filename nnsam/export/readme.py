"""The text inside a bundle that says what it is, for somebody who finds it without knowing nnsam."""

from collections.abc import Mapping
from typing import Any

README = "README.txt"
_COMMANDS = {
    "automatic": "nnsam predict THIS_FOLDER -i IN -o OUT",
    "box": "nnsam segment THIS_FOLDER -i IN --box x0,y0,x1,y1 -o OUT",
}
_PACKAGES = "openvino numpy scipy scikit-image pillow tifffile SimpleITK nibabel rich platformdirs"


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
        "  pip install --no-deps nnsam",
        f"  pip install {_PACKAGES}",
        f"  {_COMMANDS[manifest['kind']]}",
        "",
        "bundle.json describes the pre- and post-processing and holds the SHA-256 of every file: edit nothing here.",
    ]
    return "\n".join(lines) + "\n"


def _classes(manifest: Mapping[str, Any]) -> list[str]:
    return [name for name in manifest["labels"]["names"] if name not in ("background", "ignore")]
