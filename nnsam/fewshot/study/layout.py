"""Where a study keeps what: names and paths, nothing is read or written here."""

from pathlib import Path

from nnsam.errors import InputError
from nnsam.fewshot.study.protocol import Protocol

# 099 is the data set of all cases, see `pool_dataset`; a subset has a number from 100 on.
FIRST_NUMBER = 100
LAST_NUMBER = 999
PLANS = "nnUNetPlans"


def dataset_name(protocol: Protocol, size: int, seed: int) -> str:
    """Name of a subset's nnU-Net data set, e.g. "Dataset100_n4s0"; numbers count the subsets in ascending order.

    Raises:
        InputError: the study has no such subset, or more subsets than nnU-Net has numbers.
    """
    keys = sorted(protocol.subsets)
    if (size, seed) not in protocol.subsets:
        known = ", ".join(f"size {n} seed {s}" for n, s in keys)
        raise InputError(f"the study has no subset of size {size} and seed {seed}; it has {known}")
    number = FIRST_NUMBER + keys.index((size, seed))
    if number > LAST_NUMBER:
        raise InputError(
            f"{len(keys)} subsets need more than nnU-Net's numbers {FIRST_NUMBER} to {LAST_NUMBER}; ask for fewer "
            "sizes or seeds"
        )
    return f"Dataset{number}_n{size}s{seed}"


def pool_dataset() -> str:
    """Name of the data set of all cases but the test's, made for planning "all" only."""
    return f"Dataset{FIRST_NUMBER - 1:03d}_all"


def raw_folder(experiment: str | Path) -> Path:
    """The study's nnUNet_raw."""
    return Path(experiment) / "nnunet" / "nnUNet_raw"


def preprocessed_folder(experiment: str | Path) -> Path:
    """The study's nnUNet_preprocessed."""
    return Path(experiment) / "nnunet" / "nnUNet_preprocessed"


def results_folder(experiment: str | Path) -> Path:
    """The study's nnUNet_results."""
    return Path(experiment) / "nnunet" / "nnUNet_results"


def test_folder(experiment: str | Path) -> Path:
    """Folder of imagesTs and labelsTs."""
    return Path(experiment) / "test"


def nnunet_environment(experiment: str | Path) -> dict[str, str]:
    """nnU-Net's environment variables for commands that work on the study, as absolute paths."""
    folders = {
        "nnUNet_raw": raw_folder(experiment),
        "nnUNet_preprocessed": preprocessed_folder(experiment),
        "nnUNet_results": results_folder(experiment),
    }
    return {name: str(folder.absolute()) for name, folder in folders.items()}


def log_file(experiment: str | Path, name: str) -> Path:
    """What nnU-Net printed while it planned a data set."""
    return Path(experiment) / "nnunet" / "logs" / f"{name}.txt"
