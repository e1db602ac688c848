"""nnU-Net's own commands with this package's trainers, each in a process of its own."""

import json
import shutil

import numpy as np
import pytest
import torch
from skimage.io import imread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TRAINER = "nnSAMTrainer_2epochs_2iters_sam32_seed0"


def labels(folder):
    return {path.name: imread(path) for path in sorted(folder.glob("*.png"))}


@pytest.fixture(scope="module")
def trained(workplace):
    workplace.output = workplace.train(TRAINER, "--npz", fold=0, NNSAM_WEIGHTS="random")
    return workplace


def test_training_writes_what_nnunet_writes_and_the_loss_parts(trained):
    fold = trained.model_folder(TRAINER) / "fold_0"
    for name in ("checkpoint_final.pth", "progress.png", "loss_parts.png", "loss_parts.json", "sam_weights.json"):
        assert (fold / name).stat().st_size > 0
    assert json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]
    assert list((fold / "validation").glob("*.npz")), "--npz writes probabilities"
    epochs = json.loads((fold / "loss_parts.json").read_text())
    assert [entry["epoch"] for entry in epochs] == [0, 1]
    assert set(epochs[0]["train"]) == {"segmentation", "level_set", "curvature", "level_set_share"}
    assert np.isfinite([*epochs[1]["train"].values(), *epochs[1]["validation"].values()]).all()


def test_random_weights_are_told_everywhere(trained, tmp_path):
    fold = trained.model_folder(TRAINER) / "fold_0"
    assert "RANDOM" in trained.output
    assert json.loads((fold / "sam_weights.json").read_text())["kind"] == "random"
    printed = trained.predict(TRAINER, trained.path("raw", "Dataset001_Phantom", "imagesTs"), tmp_path, folds=(0,))
    assert "RANDOM" in printed


def test_validation_again_and_resuming_need_no_sam_weights(trained):
    fold = trained.model_folder(TRAINER) / "fold_0"
    before = labels(fold / "validation")
    trained.train(TRAINER, "--val", fold=0)
    after = labels(fold / "validation")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_interrupted_training_goes_on_with_the_same_frozen_encoder(trained):
    fold = trained.model_folder(TRAINER) / "fold_0"
    final = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    halfway = {**final, "current_epoch": 1}
    halfway["logging"] = {key: value[:1] for key, value in final["logging"].items() if isinstance(value, list)}
    resumed = trained.path("results", "Dataset001_Phantom", f"{TRAINER}__nnUNetPlans__2d", "fold_1")
    resumed.mkdir()
    try:
        torch.save(halfway, resumed / "checkpoint_latest.pth")
        output = trained.train(TRAINER, "--c", fold=1)
        assert "Epoch 1" in output
        assert "Epoch 0" not in output
        again = torch.load(resumed / "checkpoint_final.pth", map_location="cpu", weights_only=False)
        frozen = [key for key in final["network_weights"] if key.startswith("sam.")]
        assert len(frozen) > 250
        for key in frozen:
            assert torch.equal(final["network_weights"][key], again["network_weights"][key]), key
        trained_keys = [key for key in final["network_weights"] if key.startswith(("decoder.stages", "fusion"))]
        assert any(not torch.equal(final["network_weights"][k], again["network_weights"][k]) for k in trained_keys)
    finally:
        shutil.rmtree(resumed)


def test_mirroring_and_parallel_prediction_agree_with_the_sequential_one(trained, tmp_path):
    images = trained.path("raw", "Dataset001_Phantom", "imagesTs")
    trained.predict(TRAINER, images, tmp_path / "sequential", folds=(0,))
    model = ("-d", 1, "-c", "2d", "-tr", TRAINER, "-f", 0)
    trained.run(
        "nnUNetv2_predict", *model, "-i", images, "-o", tmp_path / "parallel", "-device", "cpu", "-npp", 1, "-nps", 1
    )
    first, second = labels(tmp_path / "sequential"), labels(tmp_path / "parallel")
    assert len(first) == 2
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_export_to_zip_predicts_the_same_on_a_machine_without_sam_weights(trained, tmp_path):
    images = trained.path("raw", "Dataset001_Phantom", "imagesTs")
    package = tmp_path / "model.zip"
    trained.run("nnUNetv2_export_model_to_zip", "-d", 1, "-o", package, "-c", "2d", "-tr", TRAINER, "-f", 0)
    other = type(trained)(tmp_path / "other_machine")
    for kind in ("raw", "preprocessed", "results"):
        other.path(kind).mkdir(parents=True)
    other.run("nnUNetv2_install_pretrained_model_from_zip", package)
    trained.predict(TRAINER, images, tmp_path / "here", folds=(0,))
    other.predict(TRAINER, images, tmp_path / "there", folds=(0,))
    here, there = labels(tmp_path / "here"), labels(tmp_path / "there")
    assert len(here) == 2
    assert all(np.array_equal(here[name], there[name]) for name in here)


def test_a_plain_nnunet_checkpoint_is_a_starting_point(workplace, tmp_path):
    """At step 0 the warm-started network computes what the nnU-Net of the checkpoint computes."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnsam.training.trainer_names import trainer_class

    workplace.train("nnUNetTrainer_1epoch", fold=0)
    plain_folder = workplace.model_folder("nnUNetTrainer_1epoch") / "fold_0"
    start = tmp_path / "start.pth"
    trainer = "nnSAMTrainer_1epochs_1iters_sam32"
    checkpoint = plain_folder / "checkpoint_final.pth"
    workplace.run("nnsam", "warm-start", checkpoint, "-o", start, "-tr", trainer, NNSAM_WEIGHTS="random")
    output = workplace.train(trainer, "-pretrained_weights", start, fold=0, NNSAM_WEIGHTS="random")
    assert "Loading pretrained weights" in output

    plain = torch.load(checkpoint, map_location="cpu", weights_only=False)
    plans = PlansManager(plain["init_args"]["plans"])
    arguments = (plans, plans.get_configuration("2d"), 1, 6, False)
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    stock = nnUNetTrainer.build_network_architecture(*arguments).eval()
    stock.load_state_dict(plain["network_weights"])
    fused = trainer_class(trainer).build_network_architecture(*arguments).eval()
    fused.load_state_dict(torch.load(start, map_location="cpu", weights_only=True)["network_weights"])
    image = torch.randn(2, 1, *plans.get_configuration("2d").patch_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(fused(image), stock(image), atol=1e-6)


def test_five_folds_and_the_best_configuration(workplace, tmp_path):
    trainer = "nnSAMTrainer_1epochs_1iters_sam32"
    for fold in range(5):
        workplace.train(trainer, "--npz", fold=fold, NNSAM_WEIGHTS="random")
    workplace.run("nnUNetv2_find_best_configuration", 1, "-c", "2d", "-tr", trainer, "-np", 1)
    information = json.loads(workplace.path("results", "Dataset001_Phantom", "inference_information.json").read_text())
    assert trainer in json.dumps(information["best_model_or_ensemble"])
    images = workplace.path("raw", "Dataset001_Phantom", "imagesTs")
    workplace.predict(trainer, images, tmp_path / "ensemble", "--save_probabilities", folds=range(5))
    assert len(labels(tmp_path / "ensemble")) == 2
    workplace.predict(trainer, images, tmp_path / "one", "--save_probabilities", folds=(0,))
    many = np.load(next((tmp_path / "ensemble").glob("*.npz")))["probabilities"]
    single = np.load(next((tmp_path / "one").glob("*.npz")))["probabilities"]
    assert not np.allclose(many, single), "five folds are averaged"


@pytest.mark.parametrize(
    ("options", "trainer"),
    [
        ({"regions": True}, "nnSAMTrainer_1epochs_2iters_sam32"),
        ({"ignore": True}, "nnSAMTrainer_1epochs_2iters_sam32"),
        ({"regions": True, "ignore": True}, "nnSAMLevelSetOnlyTrainer_1epochs_2iters"),
        ({"channels": 3}, "nnSAMRandomEncoderTrainer_1epochs_2iters_sam32"),
    ],
    ids=["regions", "ignore label", "regions and ignore label", "RGB"],
)
def test_kinds_of_data_sets_train_and_predict(new_workplace, tmp_path, options, trainer):
    place = new_workplace(n_train=5, n_test=1, **options)
    place.train(trainer, NNSAM_WEIGHTS="random")
    parts = json.loads((place.model_folder(trainer) / "fold_all" / "loss_parts.json").read_text())[0]["train"]
    assert parts["level_set"] > 0
    assert np.isfinite(list(parts.values())).all()
    place.predict(trainer, place.path("raw", "Dataset001_Phantom", "imagesTs"), tmp_path / "predictions")
    prediction = next(iter(labels(tmp_path / "predictions").values()))
    assert prediction.shape == (48, 48)
    assert prediction.max() <= 5


def test_resenc_plans_train_and_predict(workplace, tmp_path):
    trainer = "nnSAMTrainer_1epochs_1iters_sam32"
    plans = ("-p", "nnUNetResEncUNetMPlans")
    workplace.run("nnUNetv2_plan_experiment", "-d", 1, "-pl", "nnUNetPlannerResEncM")
    workplace.run("nnUNetv2_preprocess", "-d", 1, "-plans_name", plans[1], "-c", "2d", "-np", 1)
    workplace.train(trainer, *plans, NNSAM_WEIGHTS="random")
    workplace.predict(trainer, workplace.path("raw", "Dataset001_Phantom", "imagesTs"), tmp_path, *plans)
    assert len(labels(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (("1", "2d", "0", "-tr", "nnSAMTrainer_foo"), {}, "unknown option 'foo'"),
        (("1", "2d", "7", "-tr", "nnSAMTrainer"), {"NNSAM_WEIGHTS": "random"}, "fold 7 does not exist"),
        (("1", "2d", "0", "-tr", "nnSAMTrainer_3epochs"), {}, "there are no SAM weights"),
        (("1", "3d_fullres", "0", "-tr", "nnSAMTrainer"), {}, "no configuration '3d_fullres'"),
        (("1", "2d", "0", "-tr", "nnSAMTrainer_4epochs"), {"NNSAM_WEIGHTS": "absent.pt"}, "absent.pt"),
    ],
    ids=["option", "fold", "no weights", "3d", "missing file"],
)
def test_user_errors_are_one_sentence_and_leave_nothing(workplace, arguments, variables, sentence):
    before = sorted(workplace.path("results").rglob("*"))
    output = workplace.run("nnUNetv2_train", *arguments, "-device", "cpu", expect=1, **variables)
    assert "Traceback" not in output
    assert sentence in output.strip().splitlines()[-1]
    assert sorted(workplace.path("results").rglob("*")) == before
