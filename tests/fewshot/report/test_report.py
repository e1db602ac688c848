"""A whole report of a synthetic study: what must be said is said, and nothing half-written is left."""

import csv
import re
import shutil

import numpy as np
import pytest
from helpers.report_checks import Links, latex_errors
from helpers.synthetic_results import METHODS, make_run, make_study
from PIL import Image

from nnsam.errors import InputError
from nnsam.fewshot.report import report as report_module
from nnsam.fewshot.report.report import FILES, ReportOptions, write_report
from nnsam.fewshot.study.protocol import Protocol


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    absent = np.zeros((12, 5), bool)
    absent[4, 1] = True
    protocol = make_study(folder, skip={("unet", 4, 1), ("unet", 8, 0)}, absent=absent)
    make_run(folder, protocol, "unet", 8, 0, 0.5, state="failed", error="out of memory")
    return folder


@pytest.fixture(scope="module")
def report(study):
    return write_report(study)


def read(report, name="report.md"):
    return (report.folder / name).read_text(encoding="utf-8")


def test_all_files_are_there(study, report):
    assert report.folder == study / "report"
    assert sorted(path.name for path in report.folder.iterdir()) == sorted([*FILES, "figures"])
    names = {path.name for path in (report.folder / "figures").iterdir()}
    curves = {f"curve_{metric}{by}.png" for metric in ("dice", "asd", "nsd", "hd95") for by in ("", "_by_structure")}
    assert names == curves | {"overlays_n4.png", "overlays_n8.png"}
    for name in names:
        with Image.open(report.folder / "figures" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    assert not [path for path in study.iterdir() if path.name.startswith(".")]


def test_latex_compiles_and_html_is_self_contained(report):
    assert latex_errors(read(report, "report.tex")) == []
    parser = Links()
    parser.feed(read(report, "report.html"))
    assert parser.open == []
    assert len(parser.links) == 10
    assert all(link.startswith("data:image/png;base64,") for link in parser.links)


def test_what_is_needed_to_repeat_and_judge_it_is_in_every_text(study, report):
    protocol = Protocol.read(study)
    for name in ("report.md", "report.tex", "report.html"):
        text = re.sub(r"\\([_#<>|\[\]])", r"\1", read(report, name))
        for needed in (
            protocol.digest,
            protocol.list_hashes()["n4_s0"],
            protocol.list_hashes()["test"],
            "nnUNetv2_train",
            "2.8.1",
            "A processor",
            "epochs 4, iterations 40",
            "2 of 18 runs are missing or failed",
            "unet, size 4, seed 1: not started",
            "unet, size 8, seed 0: failed (out of memory)",
            "12 test cases of 6 patients",
            "no patient is in two",
            "its own training cases alone",
            "random weights",
            "For comparison with the paper only",
            "The smallest p that 3 trainings allow is 0.25",
            "total misses",
            "1 have an empty reference",
        ):
            assert needed in text, (name, needed)


def test_tables_show_the_numbers(report):
    text = read(report)
    wanted = {"kind": "estimate", "method": "nnSAMTrainer", "size": 8, "metric": "dice"}
    (found,) = report.overall[(report.overall[list(wanted)] == wanted).all(axis=1)].itertuples()
    assert f"**{found.mean:.2f} ± {found.std_cases:.2f}**" in text
    assert f"\\[{found.low:.2f}, {found.high:.2f}\\]" in text
    assert re.search(r"\| unet \| Dice \(%\) \| \d+\.\d\d ± \d+\.\d\d \(2 of 3\) \|", text)
    assert "| nnSAMTrainer † |" in text


def test_every_number_is_in_the_csv(report):
    rows = list(csv.DictReader(read(report, "report.csv").splitlines()))
    standard = [row for row in rows if row["profile"] == "standard"]
    estimates = [row for row in standard if row["kind"] == "estimate"]
    assert len(estimates) == 3 * 2 * 4 * (1 + 5)
    assert len([row for row in standard if row["kind"] == "test"]) == 2 * 2 * 4 * (1 + 5)
    assert len([row for row in standard if row["kind"] == "training"]) == 16 * 4 * (1 + 5)
    assert {row["metric"] for row in rows if row["profile"] == "legacy"} == {"dice", "asd"}
    assert {row["method"] for row in rows if row["random_sam_weights"] == "1"} == {"nnSAMTrainer"}
    assert {row["unit"] for row in standard} == {"%", "mm"}
    assert {row["unit"] for row in rows if row["profile"] == "legacy"} == {"%", "px"}
    for found in report.overall[report.overall["kind"] == "estimate"].itertuples():
        (row,) = (
            row
            for row in estimates
            if (row["method"], row["size"], row["metric"]) == (found.method, str(found.size), found.metric)
            and row["structure"].startswith("mean")
        )
        assert float(row["mean"]) == found.mean
        assert float(row["high"]) == found.high
        assert row["trainings"] == str(found.trainings)  # a whole number also where other lines have none


def test_a_second_report_replaces_the_first(tmp_path):
    make_study(tmp_path, predictions=False, methods={"unet": 0.5})
    write_report(tmp_path)
    second = write_report(tmp_path, options=ReportOptions(metrics=("dice",)))
    assert sorted(path.name for path in (second.folder / "figures").iterdir()) == [
        "curve_dice.png",
        "curve_dice_by_structure.png",
    ]


def test_a_folder_with_other_things_is_left_alone(study, tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.docx, which is no part of a report"):
        write_report(study, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        write_report(study, tmp_path / "thesis.docx")


def test_an_interrupted_report_leaves_the_earlier_one(tmp_path, monkeypatch):
    make_study(tmp_path, predictions=False, methods={"unet": 0.5})
    options = ReportOptions(metrics=("dice",))
    write_report(tmp_path, options=options)
    before = (tmp_path / "report" / "report.md").read_bytes()

    def interrupt(form, **content):
        raise KeyboardInterrupt

    monkeypatch.setattr(report_module, "render", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path, options=options)
    assert (tmp_path / "report" / "report.md").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["protocol.json", "report", "runs", "test"]


def test_the_slice_rule_and_the_planning_from_all_cases_are_warned_of(tmp_path):
    make_study(tmp_path, rule="slice", planning="all", methods={"unet": 0.5}, predictions=False)
    text = read(write_report(tmp_path, options=ReportOptions(metrics=("dice",))))
    assert "Slices of one patient may be in training and test" in text
    assert "nnU-Net planned from all cases but the test's" in text
    assert "alone" not in text.partition("## Cases")[0]


def test_validation_scores_are_marked(study, tmp_path):
    options = ReportOptions(metrics=("dice",), validation=True, overlays=0)
    text = read(write_report(study, tmp_path / "out", options))
    assert text.startswith("# Few-shot study on Dataset101\\_Hearts: validation cases\n\n> **Warning.**")
    assert "3 validation cases of 2 patients" in text


def test_the_legacy_profile_is_marked_and_has_the_papers_metrics_only(study, tmp_path):
    report = write_report(study, tmp_path / "out", ReportOptions(profile="legacy", overlays=0))
    assert list(report.overall["metric"].unique()) == ["dice", "asd"]
    assert set(report.overall["unit"]) == {"%", "px"}
    text = read(report)
    assert "flatter methods that miss structures" in text
    assert "## Legacy profile" not in text
    assert "NSD (%)" not in text


def test_distances_in_pixels_are_said_to_be(tmp_path):
    import json

    from helpers.synthetic_results import record_again

    make_study(tmp_path, methods={"unet": 0.5}, predictions=False)
    for path in tmp_path.glob("runs/*/*/scores.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"unit": "px"}))
        record_again(path.parent)
    text = read(write_report(tmp_path, options=ReportOptions(metrics=("asd",))))
    assert "ASD (px)" in text
    assert "pixels: the images state no pixel size" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "nnunet"}, "no runs of the reference method nnunet; there are nnUNetTrainer"),
        ({"metrics": ("iou",)}, "expected one or several of dice"),
        ({"metrics": ()}, "expected one or several of dice"),
        ({"metrics": ("dice", "dice")}, "expected one or several of dice"),
        ({"profile": "challenge"}, "is unknown; expected standard or legacy"),
        ({"profile": "legacy", "metrics": ("nsd",)}, "has dice and asd only"),
        ({"profile": "legacy", "validation": True}, "no scores of the legacy profile; leave out --validation"),
        ({"overlays": -1}, "expected 0 or more"),
    ],
)
def test_wrong_options_are_told(study, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_report(study, tmp_path / "out", ReportOptions(**options))
    assert not (tmp_path / "out").exists()


def test_without_nnunet_there_are_no_tests_unless_a_reference_is_given(tmp_path):
    methods = {"unet": 0.5, "swinunet": 0.6}
    make_study(tmp_path, methods=methods, predictions=False)
    options = {"metrics": ("dice",)}
    assert "There are no paired tests" in read(write_report(tmp_path, options=ReportOptions(**options)))
    text = read(write_report(tmp_path, options=ReportOptions(**options, reference="unet")))
    assert "difference from unet" in text


def test_the_size_of_a_full_study_is_that_of_its_scores(tmp_path):
    """5 sizes, 2 seeds of the 5: the arrays grow with the cells and with nothing else."""
    methods = {f"method{index}": 0.5 for index in range(6)}
    make_study(
        tmp_path, methods=methods, sizes=(1, 2, 3, 4, 5), seeds=(0, 1), cases=112, patients=20, predictions=False
    )
    from nnsam.fewshot.report.results import read_results

    results = read_results(tmp_path)
    assert results.scores.shape == (6, 5, 2, 112, 5, 4)
    assert results.scores.nbytes == 6 * 5 * 2 * 112 * 5 * 4 * 8
    shutil.rmtree(tmp_path / "runs")


def test_methods_start_with_nnunet(report):
    assert set(report.results.methods) == set(METHODS)
    assert report.results.methods[0] == "nnUNetTrainer"
