"""Makes the runs of a few-shot study: method x size x seed, each prepared, trained, predicted and scored.

Call it again after an interruption, however it came about: what is finished is not repeated, and a training goes on
from nnU-Net's last checkpoint. Several calls may work on one study at the same time; they share the runs.

Methods: nnUNetTrainer, nnSAM's trainers (also with options, e.g. nnSAMTrainer_sam256), unet, swinunet, transunet,
autosam (these need MONAI), and any trainer that nnU-Net finds (with a budget of its own). All others train
--epochs x --iterations steps with the batch size of nnU-Net's plan, and with the seed of their training cases.
nnUNetTrainer, whose name takes neither, is trained as nnSAMBaselineTrainer: the same network, loss and training with
budget and seed in the name, and in bfloat16 on CPUs that have it, as all of nnSAM's.

nnU-Net's own validation after a training is left out (--nnunet-validation keeps it). Choose hyper-parameters by
--score-validation, never by the test scores.

--executor local  --jobs runs at once on this machine, each on its own processors, or GPU
--executor ray    tasks on a Ray cluster (--ray-address), or on one that is started here
--executor slurm  one job array through submitit (--slurm KEY=VALUE ...: its parameters)

Example:
  nnsam fewshot run study --methods nnUNetTrainer nnSAMLevelSetOnlyTrainer --epochs 20 --iterations 50 --device cpu
"""

import argparse
import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnsam.fewshot.runs.matrix import Executor, RunMatrix


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this sub-command's options."""
    from nnsam.fewshot.runs.options import DEFAULT_EPOCHS, DEFAULT_ITERATIONS
    from nnsam.support.device import DEVICES

    parser.add_argument("experiment", metavar="EXP", help="the study's folder")
    parser.add_argument("--methods", nargs="+", required=True, metavar="NAME", help="see above")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="of the study's sizes (all)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="S", help="of the study's seeds (all)")
    parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS, metavar="E", help="(%(default)s)")
    parser.add_argument(
        "--iterations", type=int, default=DEFAULT_ITERATIONS, metavar="I", help="per epoch (%(default)s)"
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to train; auto is cuda or cpu, with --executor ray or slurm cuda (default: %(default)s)",
    )
    parser.add_argument(
        "--tta", action="store_true", help="predict with mirroring: nnU-Net's default, four times as slow in 2D"
    )
    parser.add_argument("--score-validation", action="store_true", help="predict and score the validation cases, too")
    parser.add_argument("--nnunet-validation", action="store_true", help="let nnU-Net validate after each training")
    parser.add_argument("--retry-failed", action="store_true", help="try failed runs again")
    parser.add_argument("--executor", choices=("local", "ray", "slurm"), default="local", help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="runs at once (one, or one per GPU)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="T", help="processors per run (an equal share; slurm: 4)"
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs for --executor local (%(default)s)")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="local, auto, or host:port")
    parser.add_argument("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. slurm_partition=gpu")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")


def run(args: argparse.Namespace) -> int:
    """Makes the runs; 1 where one failed."""
    from nnsam.cli.fewshot.screen import RunScreen
    from nnsam.errors import InputError
    from nnsam.fewshot.runs.matrix import RunMatrix
    from nnsam.fewshot.runs.options import Budget, StudyRunOptions

    if args.jobs < 0:
        raise InputError(f"found --jobs {args.jobs}; expected at least 1")
    options = StudyRunOptions(
        budget=Budget(args.epochs, args.iterations),
        device=_device(args),
        tta=args.tta,
        score_validation=args.score_validation,
        nnunet_validation=args.nnunet_validation,
        retry_failed=args.retry_failed,
        threads=args.threads,
    )
    matrix = RunMatrix(args.experiment, args.methods, options, args.sizes, args.seeds)
    if args.dry_run:
        _show_plan(matrix)
        return 0
    executor = _executor(args)
    with RunScreen(matrix) as screen:
        try:
            with closing(matrix.run(executor)) as outcomes:
                for outcome in outcomes:
                    screen.update(outcome)
        except KeyboardInterrupt:
            screen.interrupted = True
            raise
    return screen.exit_code


def _device(args: argparse.Namespace) -> str:
    from nnsam.support.device import training_device

    if args.executor == "local":
        return training_device(args.device)
    return "cuda" if args.device == "auto" else str(args.device)  # on other machines than this one


def _executor(args: argparse.Namespace) -> "Executor":
    from nnsam.errors import InputError

    if args.executor == "ray":
        from nnsam.fewshot.runs.executors.on_ray import RayExecutor

        return RayExecutor(args.jobs, args.ray_address)
    if args.executor == "slurm":
        from nnsam.fewshot.runs.executors.on_slurm import SlurmExecutor

        wrong = [text for text in args.slurm if "=" not in text]
        if wrong:
            raise InputError(f"found --slurm {wrong[0]}; expected KEY=VALUE")
        return SlurmExecutor(args.jobs, dict(text.split("=", 1) for text in args.slurm))
    from nnsam.fewshot.runs.executors.local import LocalExecutor

    return LocalExecutor(args.jobs, args.gpus)


def _show_plan(matrix: "RunMatrix") -> None:
    from nnsam.fewshot.runs.methods import trainer_name
    from nnsam.fewshot.study.layout import PLANS, dataset_name
    from nnsam.fewshot.study.planning import PlanOptions

    configuration = PlanOptions.read(matrix.experiment, matrix.protocol.digest).configuration
    methods = {method.name: method for method in matrix.methods}
    for key in matrix.keys:
        state, method = matrix.states[key], methods[key.method]
        action = matrix.ending(key) or ("to be made" if state is None else f"to be continued ({state.state})")
        print(f"{key}: {action}")
        if not matrix.ending(key):
            dataset = dataset_name(matrix.protocol, key.size, key.seed)
            trainer = trainer_name(method, matrix.options.budget, key.seed)
            command = ["nnUNetv2_train", dataset, configuration, "0", "-tr", trainer, "-p", PLANS]
            print(f"  {shlex.join([*command, '-device', matrix.options.device])}")
    for method in matrix.methods:
        if method.trainer.split("_")[0] != method.name.split("_")[0]:
            print(f"{method.name} is trained as {method.trainer}: {method.note}.", file=sys.stderr)
    pending = len(matrix.pending)
    print(f"{pending} of {len(matrix.keys)} runs would be made or continued; nothing was done.", file=sys.stderr)
