"""``nnUNetv2_promise_import_checkpoint``: published weights through both prediction commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from commands import DATASET, DATASET_ID, Workspace
from oracle_checkpoint import published_checkpoint

from nnunetv2_promise.cli import import_checkpoint as command
from nnunetv2_promise.cli import predict as predict_command
from nnunetv2_promise.inference import case_segmentation
from nnunetv2_promise.network_architectures import load_published_checkpoint
from nnunetv2_promise.prompts.schema import PROMPTS_VARIABLE, Prompt, save_prompt_file


@pytest.fixture(scope="module")
def checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published checkpoint cut to four blocks and a patch of 32^3."""
    path = tmp_path_factory.mktemp("published") / "colon_pretrain_promise.pth"
    torch.save(published_checkpoint(shared, depth=4, slices=8), path)
    return path


@pytest.fixture
def nnunet(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, workspace.environment()[name])
    monkeypatch.delenv(PROMPTS_VARIABLE, raising=False)
    return workspace


def test_import_writes_a_model_that_both_commands_use(
    nnunet: Workspace, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Masks of random weights reach every face of their window; only our command can take a larger one then.
    monkeypatch.setattr(case_segmentation, "MAX_ENLARGEMENTS", 0)
    model = nnunet.results / DATASET / "ProMISeTrainer__Published__3d_fullres"
    before = sorted(nnunet.preprocessed.rglob("*"))
    assert command.main([str(checkpoint), "-d", DATASET_ID, "-o", str(model), "-p", "Published"]) == 0
    assert sorted(nnunet.preprocessed.rglob("*")) == before
    plans = json.loads((model / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["spacing"] == [1, 1, 1]
    assert configuration["patch_size"] == configuration["architecture"]["arch_kwargs"]["patch_size"] == [32, 32, 32]
    assert configuration["normalization_schemes"] == ["CTNormalization"]
    weights = torch.load(model / "fold_0" / "checkpoint_final.pth")["network_weights"]
    expected = load_published_checkpoint(checkpoint).state_dict()
    assert all(torch.equal(weights[f"network.{key}"], value) for key, value in expected.items())

    prompts = tmp_path / "prompts.json"
    clicks = {f"scan_00{n}": [Prompt(label="organ", points=((6.0, 5.0, 4.0),))] for n in (8, 9)}
    save_prompt_file(prompts, clicks, coordinates="voxel")
    fixed = ["-i", nnunet.images, "-d", DATASET_ID, "-c", "3d_fullres", "-f", "0", "-p", "Published", "-device", "cpu"]
    fixed = [str(part) for part in fixed]
    assert predict_command.main([*fixed, "-o", str(tmp_path / "own"), "--prompts", str(prompts), "-np", "1"]) == 0
    nnunet.run(
        "nnUNetv2_predict", *fixed, "-o", tmp_path / "stock", "-tr", "ProMISeTrainer", "-npp", "1", "-nps", "1",
        **{PROMPTS_VARIABLE: str(prompts)},
    )  # fmt: skip
    for case in clicks:
        own, stock = (sitk.ReadImage(str(tmp_path / name / f"{case}.nii.gz")) for name in ("own", "stock"))
        own, stock = sitk.GetArrayFromImage(own), sitk.GetArrayFromImage(stock)
        assert 0 < own.mean() < 1
        assert (own != stock).mean() < 1e-3
        assert own.dtype.kind in "ui"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.pth", "-d", DATASET_ID, "-o", "{new}"], "missing.pth does not exist"),
        (["{text}", "-d", DATASET_ID, "-o", "{new}"], "not a PyTorch weight file"),
        (["{checkpoint}", "-d", "991", "-o", "{new}"], "No dataset 991"),
        (["{checkpoint}", "-d", "Dataset991_None", "-o", "{new}"], "run nnUNetv2_promise_plan_and_preprocess"),
        (["{checkpoint}", "-d", DATASET_ID, "-o", "{full}"], "is not empty; name a new folder"),
    ],
)
def test_import_bad_argument_is_one_sentence_and_writes_nothing(
    nnunet: Workspace, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], sentence: str,
) -> None:  # fmt: skip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "plans.json").write_text("{}")
    (tmp_path / "text.pth").write_text("no checkpoint")
    places = {"new": tmp_path / "new", "full": tmp_path / "full", "text": tmp_path / "text.pth"}
    assert command.main([argument.format(checkpoint=checkpoint, **places) for argument in arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["plans.json"]


def test_import_for_another_modality_is_refused(
    nnunet: Workspace, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = nnunet.root / "raw" / DATASET / "dataset.json"
    content = file.read_text()
    file.write_text(json.dumps({**json.loads(content), "channel_names": {"0": "MRI"}}))
    try:
        assert command.main([str(checkpoint), "-d", DATASET_ID, "-o", str(tmp_path / "new")]) == 2
    finally:
        file.write_text(content)
    assert "segment CT with one channel" in capsys.readouterr().err


def test_import_rejects_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["-d", DATASET_ID, "-o", "x"])
    assert stopped.value.code == 2
    assert "FILE" in capsys.readouterr().err
