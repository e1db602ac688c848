"""Trains the small box-prompt model on folders of npz sets, from the raw files to scored masks.

Every step is a command that can be typed by itself; they are printed. The model of the README's
table (there interrupted, resumed, and with the trainer's colour augmentation in the last 6 epochs only):

    python train_small_model.py DATA --workspace boxes --epochs 30 --iterations 250

DATA holds <set>/train/*.npz and <set>/test/*.npz. The scores come from: nnsam bench box --model ... --data DATA
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Runs all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of npz sets")
    parser.add_argument("--workspace", type=Path, default=Path("boxes"), help="gets nnU-Net's three folders")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--iterations", type=int, default=250, help="per epoch, of 16 boxes each")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = args.workspace.absolute() / name
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder)
    raw = Path(os.environ["nnUNet_raw"], "Dataset201_Boxes")
    sets = sorted(path.parent for path in args.data.glob("*/train") if not path.parent.name.endswith("_PREDICTED"))
    trainer = f"nnSAMBoxFastTrainer_{args.epochs}epochs_{args.iterations}iters_seed0"
    model = Path(os.environ["nnUNet_results"], raw.name, f"{trainer}__nnSAMBoxPlans__2d")

    if not raw.exists():
        run("nnsam", "convert", "npz-to-nnunet", *sets, "-o", raw, "--objects")
    run("nnsam", "plan-box", "-d", 201, "--model", "small", "--prompt", "ellipse")
    run("nnUNetv2_preprocess", "-d", 201, "-plans_name", "nnSAMBoxPlans", "-c", "2d", "-np", 2)
    run("nnUNetv2_train", 201, "2d", "all", "-p", "nnSAMBoxPlans", "-tr", trainer, "-device", args.device)
    run("nnsam", "bench", "box", "--model", model, "--data", args.data)


def run(*command: object) -> None:
    """Prints a command and runs it; an error ends the script."""
    words = [str(word) for word in command]
    print("$", *words, flush=True)
    program = shutil.which(words[0], path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    subprocess.run([program or words[0], *words[1:]], check=True)


if __name__ == "__main__":
    main()
