"""The command from an MSD folder to preprocessed data, and ``nnUNetv2_promise_path``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from generated_msd import edit_json, write_msd
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise.cli import path as path_command
from nnunetv2_promise.cli.plan_and_preprocess import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning import preparation

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole command once, with two spawned workers."""
    folder = tmp_path_factory.mktemp("finished")
    msd = write_msd(folder / "Task10_Colon", shape=(16, 24, 24))
    with pytest.MonkeyPatch.context() as patch:
        for variable in VARIABLES:
            patch.setenv(variable, str(folder / variable))
        arguments = ["-i", str(msd), "-d", "10", "--labels", "tumour", "-pl", "ProMISeTinyPlanner", "-np", "2"]
        assert main(arguments) == 0
    return folder


@pytest.fixture
def after(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished folders to resume from."""
    for variable in VARIABLES:
        if (finished / variable).exists():
            shutil.copytree(finished / variable, tmp_path / variable, symlinks=True)
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


def preprocessed(folder: Path) -> Path:
    return folder / "nnUNet_preprocessed" / "Dataset010_Colon"


def test_command_makes_what_nnunet_trains_on(after: Path) -> None:
    folder = preprocessed(after)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "dataset.json",
        "dataset_fingerprint.json",
        "gt_segmentations",
        "ProMISeTinyPlans.json",
        "ProMISeTinyPlans_3d_fullres_made_from.json",
        "ProMISeTinyPlans_3d_fullres",
    }
    configuration = PlansManager(str(folder / "ProMISeTinyPlans.json")).get_configuration("3d_fullres")
    data_folder = str(folder / configuration.data_identifier)
    dataset = infer_dataset_class(data_folder)(data_folder)
    assert sorted(dataset.identifiers) == ["scan_000", "scan_001", "scan_002", "scan_003"]
    data, label, _, properties = dataset.load_case("scan_001")
    # 16 voxels of 2 mm, 24 of 0.9 mm and 24 of 0.8 mm, resampled to the planned isotropic spacing.
    size = [round(n * mm / configuration.spacing[0]) for n, mm in ((16, 2.0), (24, 0.9), (24, 0.8))]
    assert data.shape == (1, *size)
    assert set(np.unique(label[:])) <= {-1, 0, 1}
    assert properties["spacing"] == pytest.approx([2.0, 0.9, 0.8])


def test_command_result_is_read_by_stock_planner(after: Path) -> None:
    plans = ExperimentPlanner(10, gpu_memory_target_in_gb=2).plan_experiment()
    assert "3d_fullres" in plans["configurations"]
    assert json.loads((preprocessed(after) / "dataset.json").read_text())["labels"] == {"background": 0, "tumour": 1}


def test_command_again_without_msd_folder_plans_anew(after: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = os.stat(preprocessed(after) / "dataset_fingerprint.json").st_mtime_ns
    assert main(["-d", "10", "-pl", "ProMISePlanner", "-gpu_memory_target", "24", "-np", "1", "--no_pp"]) == 0
    assert os.stat(preprocessed(after) / "dataset_fingerprint.json").st_mtime_ns == before
    plans = json.loads((preprocessed(after) / "ProMISePlans.json").read_text())["configurations"]["3d_fullres"]
    assert plans["spacing"] == [1, 1, 1]
    assert plans["architecture"]["arch_kwargs"]["activation_checkpointing"] is False
    assert not (preprocessed(after) / "ProMISePlans_3d_fullres").exists()


def test_command_takes_name_and_spacing(after: Path) -> None:
    options = ["-overwrite_plans_name", "Mine", "-overwrite_target_spacing", "2", "1", "1", "-np", "1", "--no_pp"]
    assert main(["-d", "10", "-pl", "ProMISeTinyPlanner", *options]) == 0
    plans = json.loads((preprocessed(after) / "Mine.json").read_text())
    assert plans["configurations"]["3d_fullres"]["spacing"] == [2, 1, 1]


def test_preprocess_that_stops_leaves_no_data(after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object) -> None:
        partial = preprocessed(after) / ".partial_ProMISeTinyPlans_3d_fullres"
        partial.mkdir()
        (partial / "scan_000.b2nd").write_bytes(b"half")
        raise RuntimeError("Some background worker is 6 feet under. Yuck. \nmore")

    monkeypatch.setattr(preparation, "preprocess_dataset", stop)
    with pytest.raises(UserError, match=r"stopped while preprocessing .*6 feet under.* smaller -np"):
        preparation.preprocess("Dataset010_Colon", "ProMISeTinyPlans", num_processes=1)
    left = {path.name for path in preprocessed(after).iterdir()}
    assert left == {"dataset.json", "dataset_fingerprint.json", "gt_segmentations", "ProMISeTinyPlans.json"}


def test_fingerprint_that_stops_is_one_sentence(after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Some background worker is 6 feet under.")

    monkeypatch.setattr(preparation, "extract_fingerprint_dataset", stop)
    with pytest.raises(UserError, match="stopped while extracting the fingerprint"):
        preparation.extract_fingerprint(10, num_processes=1)


BAD_CALLS = {
    "no such folder": (["-i", "nowhere", "-d", "10"], "nowhere does not exist"),
    "archive": (["-i", "Task10_Colon.tar", "-d", "10"], "extract the MSD archive"),
    "unknown label": (["-i", "Task10_Colon", "-d", "10", "--labels", "kidney"], "no foreground label 'kidney'"),
    "labels without folder": (["-d", "10", "--labels", "tumour"], "--labels needs the MSD folder"),
    "unknown dataset": (["-d", "11"], "No dataset 011"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_command_bad_input_is_one_line_and_exit_code_2(
    folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_msd(folders / "Task10_Colon", cases=2)
    (folders / "Task10_Colon.tar").write_bytes(b"archive")
    monkeypatch.chdir(folders)
    assert main(arguments) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_command_too_small_memory_target_keeps_the_old_plans(after: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (preprocessed(after) / "ProMISeTinyPlans.json").read_bytes()
    assert main(["-d", "10", "-pl", "ProMISeTinyPlanner", "-gpu_memory_target", "0.1", "-np", "1"]) == 2
    assert "memory target of 0.1 GB is too small" in capsys.readouterr().err
    assert (preprocessed(after) / "ProMISeTinyPlans.json").read_bytes() == before
    assert (preprocessed(after) / "ProMISeTinyPlans_3d_fullres").is_dir()


@pytest.mark.parametrize("variable", VARIABLES[:2])
def test_command_without_environment_variable_names_it(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.delenv(variable)
    assert main(["-d", "10"]) == 2
    assert f"{variable} is not set" in capsys.readouterr().err


def test_command_environment_variable_that_names_a_file_is_an_error(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "nnUNet_raw").write_text("no folder")
    assert main(["-d", "10"]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-d", "0"],
        ["-d", "1000"],
        ["-d", "ten"],
        ["-d", "10", "-np", "0"],
        ["-d", "10", "-gpu_memory_target", "-1"],
        ["-d", "10", "-gpu_memory_target", "nan"],
        ["-d", "10", "-overwrite_target_spacing", "1", "1"],
        ["-d", "10", "-overwrite_target_spacing", "1", "1", "0"],
        ["-d", "10", "-overwrite_plans_name", "../plans"],
        ["-d", "10", "-pl", "ExperimentPlanner"],
        ["-d", "10", "-c", "2d"],
    ],
)
def test_command_bad_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_help_has_an_example_and_loads_no_torch() -> None:
    code = (
        "import sys\nfrom nnunetv2_promise.cli.plan_and_preprocess import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "nnUNetv2_promise_plan_and_preprocess -i Task07_Pancreas" in shown


# --- nnUNetv2_promise_path -------------------------------------------------------------------------------------------


def test_path_prints_the_folder_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert path_command.main([]) == 0
    shown = capsys.readouterr()
    folder = Path(shown.out.strip())
    assert shown.out == f"{folder}\n"
    assert shown.err == ""
    assert folder.is_absolute()
    assert folder.is_dir()
    assert folder.parts[-2:] == ("nnunetv2_promise", "nnunet_trainers")


def test_path_export_line_sets_the_variable_in_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert path_command.main(["--export"]) == 0
    line = capsys.readouterr().out
    shown = subprocess.run(
        ["sh", "-c", line + 'printf %s "$nnUNet_extTrainer"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == str(path_command.trainer_folder())


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hippocampus(shared: Path, folders: Path) -> Path:
    """20 real cases, in an MSD folder of links."""
    source = shared / "data" / "Task04_Hippocampus"
    if not source.is_dir():
        pytest.skip("no Task04_Hippocampus in the folder 'shared'")
    folder = folders / "Task04_Hippocampus"
    folder.mkdir()
    for name in ("imagesTr", "labelsTr"):
        (folder / name).symlink_to(source / name)
    shutil.copy(source / "dataset.json", folder / "dataset.json")
    edit_json(folder / "dataset.json", lambda content: content.update(training=content["training"][:20]))
    return folder


def test_hippocampus_anterior_only(hippocampus: Path, folders: Path) -> None:
    arguments = ["-i", str(hippocampus), "-d", "4", "--labels", "Anterior", "-pl", "ProMISeTinyPlanner", "-np", "2"]
    assert main([*arguments, "--no_pp"]) == 0
    folder = folders / "nnUNet_preprocessed" / "Dataset004_Hippocampus"
    objects = json.loads((folder / "dataset_fingerprint.json").read_text())["objects"]["labels"]
    assert set(objects) == {"Anterior"}
    assert objects["Anterior"]["cases_without"] == []
    # The head of the hippocampus measures one to three centimetres.
    assert all(5 < extent < 35 for extent in objects["Anterior"]["percentiles"]["extent_mm"]["50.0"])
    plans = json.loads((folder / "ProMISeTinyPlans.json").read_text())["configurations"]["3d_fullres"]
    assert plans["spacing"] == [1, 1, 1]
    assert all(32 <= size <= 64 for size in plans["patch_size"])


@pytest.mark.slow
def test_hippocampus_whole_dataset_both_labels(shared: Path, folders: Path) -> None:
    source = shared / "data" / "Task04_Hippocampus"
    if not source.is_dir():
        pytest.skip("no Task04_Hippocampus in the folder 'shared'")
    assert main(["-i", str(source), "-d", "4", "-pl", "ProMISeTinyPlanner", "-np", "2"]) == 0
    folder = folders / "nnUNet_preprocessed" / "Dataset004_Hippocampus"
    assert len(list((folder / "ProMISeTinyPlans_3d_fullres").glob("*.pkl"))) == 195
    assert len(list((folder / "gt_segmentations").iterdir())) == 195
