"""Makes the folder of a finished study without training anything: protocol, runs, scores, label maps, test images."""

import hashlib
import json
from pathlib import Path

import numpy as np

from nnsam.fewshot.runs.scoring import hash_results
from nnsam.fewshot.runs.state import RunKey, RunState
from nnsam.fewshot.study.protocol import Protocol
from nnsam.fewshot.study.splits import draw_subsets
from nnsam.io.writing import write_png
from nnsam.metrics.profiles import LEGACY_RULES

STRUCTURES = ("LV", "RV", "LA", "RA", "Myo")
VERSIONS = {"python": "3.11.9", "nnsam": "0.4.0", "nnunetv2": "2.8.1", "torch": "2.8.0"}
MACHINE = {"system": "Linux x86_64", "processor": "A processor", "cores": 2, "gpu": None}
POLICY = "a class that is empty on one side has Dice and NSD 0 and no ASD and HD95; empty on both sides: no score"
SAM = {"nnSAMTrainer": {"kind": "random", "sha256": "0" * 64, "sam_size": 1024}}
SIDE = 48


def make_protocol(
    folder,
    *,
    sizes=(4, 8),
    seeds=(0, 1, 2),
    cases=12,
    patients=6,
    structures=STRUCTURES,
    rule="patient",
    planning="training",
):
    """Writes protocol.json, test images and references; returns the protocol."""
    test = tuple(f"t{index:03d}" for index in range(cases))
    validation = tuple(f"v{index:03d}" for index in range(3))
    pool = tuple(f"p{index:03d}" for index in range(max(sizes) + 4))
    owners = {case: f"test{index % patients}" for index, case in enumerate(test)}
    owners |= {case: f"{case[0]}{index // 2}" for part in (validation, pool) for index, case in enumerate(part)}
    labels = {"background": 0, **{name: index for index, name in enumerate(structures, start=1)}}
    protocol = Protocol(
        "Dataset101_Hearts",
        ".png",
        {"0": "CT"},
        labels,
        rule,
        planning,
        tuple(sizes),
        tuple(seeds),
        draw_subsets(pool, sizes, seeds),
        validation,
        test,
        owners,
        dict.fromkeys(owners, "0" * 64),
        VERSIONS,
    )
    folder.mkdir(parents=True, exist_ok=True)
    protocol.write(folder)
    generator = np.random.default_rng(1)
    for part in ("images", "labels"):
        (folder / "test" / f"{part}Ts").mkdir(parents=True)
    for index, case in enumerate(test):
        labels = picture_labels(index, len(structures), 0)
        image = np.clip(60 + 25 * labels + generator.normal(0, 12, labels.shape), 0, 255)
        write_png(folder / "test" / "imagesTs" / f"{case}_0000.png", image.astype(np.uint8))
        write_png(folder / "test" / "labelsTs" / f"{case}.png", labels)
    return protocol


def picture_labels(case: int, structures: int, shift: int):
    """Discs around a centre, moved by `shift` pixels."""
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for index in range(structures):
        angle = 2 * np.pi * index / structures + case
        labels[np.hypot(y - 24 - 13 * np.sin(angle), x - 24 - shift - 13 * np.cos(angle)) < 6] = index + 1
    return labels


def make_scores(cases, structures, level, generator, missed=0.02, absent=None):
    """Entries of scores.json: Dice around `level`, the other scores in step."""
    entries = {}
    for row, case in enumerate(cases):
        entries[case] = {}
        for column, structure in enumerate(structures):
            empty_reference = bool(absent is not None and absent[row, column])
            empty_prediction = bool(generator.random() < (0.5 if empty_reference else missed))
            dice = float(np.clip(generator.normal(level - 0.03 * column, 0.06), 0.05, 0.99))
            entry = {"dice": dice, "asd": (1 - dice) * 12, "nsd": dice**1.5, "hd95": (1 - dice) * 40}
            if empty_reference or empty_prediction:
                both = empty_reference and empty_prediction
                share = None if both else 0.0
                entry = {"dice": share, "asd": None, "nsd": share, "hd95": None}
            entries[case][structure] = {
                **entry,
                "empty_reference": empty_reference,
                "empty_prediction": empty_prediction,
            }
    return entries


def make_run(folder, protocol, method, size, seed, level, *, absent=None, state="done", predictions=True, **changes):
    """Writes one run's folder; `changes` go into its record."""
    key = RunKey(method, size, seed)
    run = key.folder(folder)
    generator = np.random.default_rng([size, seed, *method.encode()])
    structures = [name for name in protocol.labels if name != "background"]
    record = RunState(
        key,
        protocol.digest,
        {"epochs": 4, "iterations": 40},
        {"tta": False},
        state,
        1,
        "2026-11-21T16:00:00+00:00",
        seconds={"train": 1800.0 + 60 * size, "predict": 30.0, "score": 2.0},
        commands=[f"nnUNetv2_train Dataset100_n{size}s{seed} 2d 0 -tr {method}_4epochs_40iters_seed{seed}"],
        versions=VERSIONS,
        machine=MACHINE,
        sam_weights=SAM.get(method),
    )
    for name, value in changes.items():
        setattr(record, name, value)
    run.mkdir(parents=True)
    if state == "done":
        for file, part, cases in (
            ("scores.json", "predictions", protocol.test),
            ("scores_validation.json", "predictions_validation", protocol.validation),
        ):
            masks = run / part
            for index, case in enumerate(cases if predictions else ()):
                write_png(masks / f"{case}.png", picture_labels(index, len(structures), round(8 * (1 - level))))

            entries = make_scores(cases, structures, level, generator, absent=absent if part == "predictions" else None)
            write_scores(run / file, entries, masks)
            if part == "predictions":
                legacy = {"profile": "legacy", "unit": "px", "policy": LEGACY_RULES, "nsd_tolerance": None}
                write_scores(run / "scores_legacy.json", legacy_entries(entries), masks, **legacy)
        record.results = hash_results(run)
    record.write(folder)
    return run


def legacy_entries(entries):
    """The entries of scores_legacy.json that belong to those of scores.json."""

    def legacy(entry):
        share, distance = entry["dice"], entry["asd"]
        if entry["empty_reference"] or entry["empty_prediction"]:
            share, distance = float(not entry["empty_prediction"]), 0.0
        empty = {name: entry[name] for name in ("empty_reference", "empty_prediction")}
        return {"dice": share, "asd": distance, **empty}

    return {case: {name: legacy(entry) for name, entry in by_name.items()} for case, by_name in entries.items()}


def write_scores(path, entries, masks, **changes):
    """Writes a file of scores, with the hashes of the label maps beside it."""
    content = {
        "cases": entries,
        "unit": "mm",
        "policy": POLICY,
        "profile": "standard",
        "nsd_tolerance": 2.0,
        "predictions": {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(masks.glob("*"))},
        **changes,
    }
    path.write_text(json.dumps(content))


METHODS = {"nnUNetTrainer": 0.70, "nnSAMTrainer": 0.74, "unet": 0.55}


def make_study(folder, *, methods=METHODS, skip=(), predictions=True, absent=None, **protocol_options):
    """A whole study; `skip` holds (method, size, seed) that were not run."""
    folder = Path(folder)
    protocol = make_protocol(folder, **protocol_options)
    for method, level in methods.items():
        for index, size in enumerate(protocol.sizes):
            for seed in protocol.seeds:
                if (method, size, seed) not in skip:
                    shift = 0.01 * np.random.default_rng([seed, *method.encode()]).normal()
                    make_run(
                        folder,
                        protocol,
                        method,
                        size,
                        seed,
                        level + 0.04 * index + shift,
                        predictions=predictions,
                        absent=absent,
                    )
    return protocol


def record_again(run):
    """Writes run.json anew, so that edited results pass for the run's own."""
    size, seed = run.name.removeprefix("n").split("_s")
    experiment = run.parents[2]
    state = RunState.read(experiment, RunKey(run.parent.name, int(size), int(seed)))
    state.results = hash_results(run)
    state.write(experiment)
