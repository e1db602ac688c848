"""Kills long commands at random moments, or lets their disk be full, and looks at what is left and at the next run.

    python -m tests.campaigns.kills --kills 300 --seed 1
    python -m tests.campaigns.kills --full 60 --commands predict export

After each kill (SIGKILL or SIGTERM) or full disk (files may not grow beyond a random size): no visible file is
half-written, a bundle that is replaced is the old or the new one, no stack trace was printed, and SIGTERM and full
disks leave nothing unfinished. Then the command is run again, with --continue where it has it: it must end with 0, and
every file must be that of a run that nothing disturbed; no drafts or temporary files are left.

Commands run in forks of a process that has imported what they need, so that kills hit their work and not the imports.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# What the forks share; none of it starts threads.
_IMPORTS = (
    *(
        "numpy",
        "scipy.ndimage",
        "skimage.io",
        "nibabel",
        "SimpleITK",
        "torch",
        "openvino",
        "PIL.Image",
        "rich.progress",
    ),
    *("nnsam.cli.main", "nnsam.exporting.export_model", "nnsam.training.warm_start", "nnsam.datasets.mmwhs.convert"),
    *(
        "nnsam.datasets.images",
        "nnsam.datasets.challenge",
        "nnsam.metrics.evaluation",
        "nnsam.inference.folders.segment",
    ),
    *("nnsam.inference.automatic.predictor", "nnsam.fewshot.study.prepare", "nnsam.metrics.summary", "filelock"),
)
_DRAFT = ".nnsam-"
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Scenario:
    """A command.

    Attributes:
        words: of the command line; `{stage}` is the folder of the inputs, `{work}` that of this try.
        again: further words when it is run once more.
        before: what is there before, copied from the stage into the work folder.
        changing: files that differ from run to run: they must exist and, if JSON, be whole.
    """

    words: str
    again: str = ""
    before: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()


SCENARIOS = {
    "predict": Scenario(
        "predict {stage}/bundle -i {stage}/images -o {work}/out --save-probabilities --json {work}/r.json --threads 1",
        "--continue",
        changing=("r.json", "nnsam_predict.json"),
    ),
    "predict-one": Scenario(
        "predict {stage}/bundle -i {stage}/images/a_0000.png -o {work}/a.png --threads 1", "--overwrite"
    ),
    "segment": Scenario(
        "segment {stage}/box -i {stage}/pictures --box 5,5,30,30 -o {work}/out --overlay --probabilities --threads 1 "
        "--json {work}/r.json",
        "--continue",
        changing=("r.json", "nnsam_segment.json"),
    ),
    "segment-separate": Scenario(
        "segment {stage}/box -i {stage}/pictures --box 5,5,30,30 --box 9,9,20,20 -o {work}/out --separate --threads 1",
        "--continue",
        changing=("nnsam_segment.json",),
    ),
    "evaluate": Scenario(
        "evaluate -p {stage}/maps -r {stage}/maps --json {work}/scores.json --csv {work}/scores.csv", "--overwrite"
    ),
    "convert-images": Scenario("convert images {stage}/pictures {stage}/maps -o {work}/Dataset100_A"),
    "convert-npz": Scenario("convert npz-to-nnunet {stage}/npz -o {work}/Dataset101_B"),
    "convert-mmwhs": Scenario(
        "convert mmwhs {stage}/mmwhs.zip -o {work}/Dataset102_C --min-classes 1 --slices-per-volume 4"
    ),
    "prepare": Scenario(
        "fewshot prepare -d {stage}/raw/Dataset900_Hearts -o {work}/study --sizes 1 2 --seeds 2 --val 2 --test 2"
    ),
    "warm-start": Scenario("warm-start {stage}/model/fold_0/checkpoint_final.pth -o {work}/start.pth", "--overwrite"),
    "export": Scenario(
        "export {stage}/model -o {work}/bundle --calibration 4 --precision f32",
        "--overwrite",
        changing=("bundle.json", "README.md"),
    ),
    "export-again": Scenario(
        "export {stage}/model -o {work}/bundle --calibration 4 --precision f32 --overwrite",
        before=("bundle",),
        changing=("bundle.json", "README.md"),
    ),
}


def prepare_stage(stage: Path) -> None:
    """Makes all inputs, small."""
    import zipfile

    import numpy as np
    from helpers.bundles import write_automatic, write_box
    from helpers.mmwhs_toy import heart, write_case
    from helpers.model_folders import write_model_folder
    from helpers.raw_study import make_raw
    from skimage.io import imsave

    generator = np.random.default_rng(0)
    for folder in ("images", "pictures", "maps", "npz/train", "mmwhs"):
        (stage / folder).mkdir(parents=True)
    for name in "abcdefgh":
        picture = generator.integers(0, 256, (60, 80), dtype=np.uint8)
        labels = (generator.random((60, 80)) > 0.7).astype(np.uint8)
        imsave(stage / "images" / f"{name}_0000.png", picture, check_contrast=False)
        imsave(stage / "pictures" / f"{name}.png", picture, check_contrast=False)
        imsave(stage / "maps" / f"{name}.png", labels, check_contrast=False)
        np.savez(stage / "npz" / "train" / f"{name}.npz", imgs=picture, gts=labels)
    for number in range(3):
        write_case(stage / "mmwhs", f"ct_train_{1001 + number}", *heart())
    with zipfile.ZipFile(stage / "mmwhs.zip", "w") as archive:
        for path in (stage / "mmwhs").iterdir():
            archive.write(path, path.name)
    write_automatic(stage / "bundle")
    write_box(stage / "box")
    write_model_folder(stage / "model", folds=("0",))
    make_raw(stage / "raw" / "Dataset900_Hearts", train=6)


@dataclass
class Campaign:
    """What was found.

    Attributes:
        stage: folder of the inputs.
        faults: a sentence each.
        counts: of ends, kills and files.
    """

    stage: Path
    faults: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    _expected: dict[str, tuple[dict[str, str], float]] = field(default_factory=dict)

    def expect(self, name: str) -> tuple[dict[str, str], float]:
        """File -> hash of an undisturbed run, and its seconds."""
        if name not in self._expected:
            with self._work(name) as work:
                start = time.monotonic()
                code, errors = _run(self._words(name, work), work)
                seconds = time.monotonic() - start
                if code != 0:
                    raise RuntimeError(f"{name} does not even work undisturbed ({code}): {errors}")
                self._expected[name] = _hashes(work), seconds
        return self._expected[name]

    def kill(self, name: str, number: int, share: float) -> None:
        """Kills a command when a share of its usual time has passed, and runs it again."""
        expected, seconds = self.expect(name)
        what = f"{name}, {signal.Signals(number).name} at {share * seconds:.2f} s"
        with self._work(name) as work:
            code, errors = _run(self._words(name, work), work, (number, share * seconds))
            self.counts["killed" if code < 0 or code == 143 else "ended before"] += 1
            if code not in (0, -number, 143):
                self._fault(what, f"exit code {code}: {errors}")
            self._look(what, name, work, expected, errors, tidy=code == 143)
            self._again(what, name, work, expected)

    def fill(self, name: str, share: float) -> None:
        """Lets no file grow beyond a share of the largest one, and runs the command again without that."""
        expected, _ = self.expect(name)
        with self._work(name) as work:
            largest = int(expected["largest"])
            limit = int(share * largest)
            what = f"{name}, files of at most {limit} bytes"
            code, errors = _run(self._words(name, work), work, limit=limit)
            self.counts["full" if code else "large enough"] += 1
            if code not in (0, 1):
                self._fault(what, f"exit code {code}: {errors}")
            self._look(what, name, work, expected, errors, tidy=True)
            self._again(what, name, work, expected)

    def _again(self, what: str, name: str, work: Path, expected: dict[str, str]) -> None:
        words = self._words(name, work)
        finished = bool(_visible(work)) and not SCENARIOS[name].again and not SCENARIOS[name].before
        if finished and set(_hashes(work)) == set(expected):
            self.counts["were finished"] += 1
            self._tidied_by_another_command(work)
        else:
            code, errors = _run([*words, *SCENARIOS[name].again.split()], work)
            if code != 0:
                self._fault(what, f"the next run ends with {code}: {errors}")
            if "Traceback" in errors:
                self._fault(what, f"a stack trace in the next run: {errors}")
        found = _hashes(work)
        for path in sorted(set(expected) | set(found)):
            if path == "largest":
                continue
            if path not in found or path not in expected:
                self._fault(what, f"{path} is {'missing' if path not in found else 'too much'} after the next run")
            elif found[path] != expected[path] and Path(path).name not in SCENARIOS[name].changing:
                self._fault(what, f"{path} is wrong after the next run")
        for left in _drafts(work):
            self._fault(what, f"{left} is left behind by the next run")
        if "bundle" in found:
            self._open(what, work)
        self.counts["runs"] += 1

    def _tidied_by_another_command(self, work: Path) -> None:
        """What makes a new folder would refuse; so another command writes beside it."""
        _run(self._words("evaluate", work), work)
        for name in ("scores.json", "scores.csv"):
            (work / name).unlink()

    def _look(self, what, name, work, expected, errors, tidy) -> None:
        if "Traceback" in errors:
            self._fault(what, f"a stack trace: {errors}")
        for path in _visible(work):
            relative = str(path.relative_to(work))
            self.counts["files"] += 1
            if not _is_whole(path):
                self._fault(what, f"{relative} is half-written")
            if path.name in SCENARIOS[name].changing:
                continue
            before = self.stage / "before" / relative
            good = {expected.get(relative), _sha256(before) if before.is_file() else None}
            if _sha256(path) not in good:
                self._fault(what, f"{relative} is half-written or wrong")
        if SCENARIOS[name].before:
            self._open(what, work)
        if tidy:  # but for a journal, where the disk is too full for the record that it is made for
            for left in _drafts(work, journals="disk" not in errors):
                self._fault(what, f"{left} is left behind")

    def _open(self, what: str, work: Path) -> None:
        from nnsam.errors import NnsamError
        from nnsam.inference.bundle import Bundle

        try:
            Bundle.open(work / "bundle")
        except NnsamError as error:
            self._fault(what, str(error))

    def _fault(self, what: str, sentence: str) -> None:
        self.faults.append(f"{what}: {sentence}")
        print(f"FAULT {what}: {sentence}", flush=True)

    def _words(self, name: str, work: Path) -> list[str]:
        return [word.format(stage=self.stage, work=work) for word in SCENARIOS[name].words.split()]

    def _work(self, name: str) -> "_Work":
        return _Work(self, name)


class _Work:
    """The folder of one try, with a folder for temporary files and a home in it; both hidden from `_visible`."""

    def __init__(self, campaign: Campaign, name: str):
        self.campaign, self.name = campaign, name

    def __enter__(self) -> Path:
        self.folder = Path(tempfile.mkdtemp(dir=self.campaign.stage.parent))
        for hidden in (".tmp", ".home"):
            (self.folder / hidden).mkdir()
        for entry in SCENARIOS[self.name].before:
            if (self.campaign.stage / "before" / entry).exists():
                shutil.copytree(self.campaign.stage / "before" / entry, self.folder / entry)
        return self.folder

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _run(
    words: list[str],
    work: Path,
    kill: tuple[int, float] | None = None,
    limit: int | None = None,
) -> tuple[int, str]:
    """Runs a command in a fork; returns its exit code (or minus the signal) and what it wrote to standard error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become(words, work, writer, limit)
    os.close(writer)
    os.set_blocking(reader, False)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    moment = time.monotonic() + kill[1] if kill else float("inf")
    text, status = b"", None
    while status is None:
        text += _available(reader)
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = found
        elif time.monotonic() > moment and kill:
            os.kill(child, kill[0])
            moment = float("inf")
        elif time.monotonic() > give_up:
            os.kill(child, signal.SIGKILL)
            text += b"(did not end by itself)"
        time.sleep(0.002)
    text += _available(reader)
    os.close(reader)
    return os.waitstatus_to_exitcode(status), text.decode(errors="replace")


def _become(words: list[str], work: Path, errors: int, limit: int | None) -> None:
    """Is the command; never returns."""
    code = 70
    try:
        os.environ.update(TMPDIR=str(work / ".tmp"), NNSAM_HOME=str(work / ".home"))
        tempfile.tempdir = None
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(errors, 2)
        # Of their own, since those of this process believe that they write to what its were opened on.
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from nnsam.cli.main import main

        code = main(words)
        sys.stderr.flush()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        code = 1
    finally:
        os._exit(code)


def _available(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except BlockingIOError:
        return b""


def _visible(work: Path) -> list[Path]:
    """Files that a user sees."""
    files = [path for path in sorted(work.rglob("*")) if path.is_file()]
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(work).parts)]


def _drafts(work: Path, journals: bool = True) -> Iterator[str]:
    for path in sorted(work.rglob("*")):
        relative = path.relative_to(work)
        if re.fullmatch("[a-z0-9_]{8}", path.name) and path.is_file() and path.stat().st_size <= 4:
            continue  # by which Python finds out where temporary files can be made; a kill may leave it
        is_journal = journals and path.name.endswith(".journal")
        if is_journal or path.name.startswith(_DRAFT) or (relative.parts[0] == ".tmp" and len(relative.parts) > 1):
            yield str(relative)


def _hashes(work: Path) -> dict[str, str]:
    files = _visible(work)
    found = {str(path.relative_to(work)): _sha256(path) for path in files}
    return {**found, "largest": str(max((path.stat().st_size for path in files), default=0))}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    if path.suffix != ".json":
        return True
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


def run_campaign(kills: int, full: int, seed: int, names: list[str], tell: Callable[[str], object] = print) -> Campaign:
    """Runs it in a temporary folder; commands, moments and signals are drawn with the seed."""
    os.environ.update({"OMP_NUM_THREADS": "1", "NNSAM_WEIGHTS": "random", "NNSAM_OFFLINE": "1"})
    for module in _IMPORTS:
        importlib.import_module(module)
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills_") as folder:
        campaign = Campaign(Path(folder, "stage"))
        _prepared(campaign.stage)
        for name in names:
            campaign.expect(name)
        for number in range(kills):
            name = names[number % len(names)]
            campaign.kill(name, generator.choice((signal.SIGKILL, signal.SIGTERM)), generator.uniform(0, 1.05))
            if number % 25 == 24:
                tell(f"{number + 1} of {kills} kills, {len(campaign.faults)} faults")
        for number in range(full):
            campaign.fill(names[number % len(names)], generator.uniform(0, 1))
        return campaign


def _prepared(stage: Path) -> None:
    """Makes the stage in a fork, since it starts threads."""
    child = os.fork()
    if child == 0:
        try:
            prepare_stage(stage)
            shutil.copytree(stage / "model", stage / "before" / "model")
            from nnsam.exporting.export_model import export_model

            export_model(stage / "model", stage / "before" / "bundle", calibration=4, precision="f32")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the inputs cannot be made")


def main() -> int:
    """Parses the command line, runs the campaign, prints the counts and returns 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--full", type=int, default=0, help="tries with a full disk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    args = parser.parse_args()
    campaign = run_campaign(args.kills, args.full, args.seed, args.commands)
    print(f"seed {args.seed}: {dict(campaign.counts)}; {len(campaign.faults)} faults")
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
