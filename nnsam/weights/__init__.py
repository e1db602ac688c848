"""The MobileSAM checkpoint: cache, download, import, choice, reading. Importing this needs neither torch nor a network.

Environment variables: NNSAM_HOME (cache folder), NNSAM_WEIGHTS (path or `random`), NNSAM_OFFLINE (no network),
NNSAM_WEIGHTS_URL (mirror).
"""

from nnsam.weights.cache import OFFICIAL, CheckpointSpec, cached_path, import_file
from nnsam.weights.checkpoint import read_tensors
from nnsam.weights.fetching import fetch
from nnsam.weights.status import WeightsSource, WeightsStatus, resolve, status

__all__ = [
    "OFFICIAL",
    "CheckpointSpec",
    "WeightsSource",
    "WeightsStatus",
    "cached_path",
    "fetch",
    "import_file",
    "read_tensors",
    "resolve",
    "status",
]
