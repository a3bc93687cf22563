"""The README's commands run as printed, in order, in a folder that holds an MSD download, here a tiny one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from generated_msd import edit_json, write_msd, write_volume

README = Path(__file__).resolve().parents[1] / "README.md"

ELSEWHERE = {
    "make demo": "the Makefile's targets; CI runs make test, the demo's steps have tests of their own",
    "python3 -m venv": "make test made an environment and installed the package before this test runs",
    "pip install": "the same, and what CI runs itself",
}
"""How the blocks begin that are not executed here, and why."""

SHORTER = {
    "-d 10 --labels tumour": "-d 10 --labels tumour -pl ProMISeTinyPlanner -np 2",
    "nnUNetv2_promise_download_sam vit_b\n": "",
    "ProMISePlans": "ProMISeTinyPlans",
    "ProMISeTrainer -p": "ProMISeTrainer_1epoch -p",
    "ProMISeTrainer__": "ProMISeTrainer_1epoch__",
    "-f 0 ": "-f 0 -device cpu ",
    "3d_fullres 0 ": "3d_fullres 0 -device cpu ",
    "--prompts 1 10": "--prompts 1 10 -p ProMISeTinyPlans -f 0 --minutes 0.05 -device cpu -np 1",
}
"""Replaced in the commands, to take a minute on a CPU: what the README says to do without a GPU, and one epoch."""


def blocks() -> list[tuple[str, str]]:
    """Language and text of every fenced block."""
    return re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def executed_here(text: str) -> bool:
    return not text.startswith(tuple(ELSEWHERE))


def script() -> str:
    """All blocks that are executed, as one shell script; the prompt file is written where the README says."""
    parts = ["set -euo pipefail"]
    for language, text in blocks():
        if language == "json":
            parts.append(f"cat > scans/prompts.json <<'END'\n{text}END")
        elif language in ("bash", "python") and executed_here(text):
            for printed, shorter in SHORTER.items():
                text = text.replace(printed, shorter)
            parts.append(text if language == "bash" else f"python - <<'END' > from_python.txt\n{text}END")
    return "\n".join(parts)


def make_download(folder: Path) -> None:
    """``Task10_Colon`` with the names of the real one, and a test scan in which the README's click lies."""
    task = write_msd(
        folder / "Task10_Colon",
        cases=8,
        tests=0,
        labels=("background", "cancer"),
        shape=(20, 28, 24),
        spacing=(1, 1, 2),
    )
    scan = np.random.default_rng(2).normal(40, 10, (44, 192, 216)).astype(np.int16)
    scan[38:44, 184:190, 206:214] += 80
    write_volume(scan, task / "imagesTs" / "colon_002.nii.gz", spacing=(1, 1, 2))
    edit_json(task / "dataset.json", lambda content: content.update(test=["./imagesTs/colon_002.nii.gz"], numTest=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder after all blocks ran."""
    folder = tmp_path_factory.mktemp("readme")
    make_download(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    environment |= {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
    }
    done = subprocess.run(
        ["bash", "-c", script()], cwd=folder, env=environment, capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return folder


def test_every_replacement_is_of_something_printed() -> None:
    printed = "".join(text for language, text in blocks() if language == "bash")
    assert [text for text in (*SHORTER, *ELSEWHERE) if text not in printed] == []


def test_the_click_gives_a_mask_on_the_grid_of_its_scan(folder: Path) -> None:
    mask = sitk.ReadImage(str(folder / "masks" / "colon_002.nii.gz"))
    assert mask.GetSize() == sitk.ReadImage(str(folder / "scans" / "colon_002_0000.nii.gz")).GetSize()
    assert list((folder / "pictures").glob("colon_002*.png"))


def test_python_gives_the_mask_of_the_command(folder: Path) -> None:
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "masks" / "colon_002.nii.gz")))
    assert (folder / "from_python.txt").read_text() == f"{mask.shape} {(mask > 0).sum()} voxels\n"


def test_masks_of_the_validation_are_scored(folder: Path) -> None:
    scores = json.loads((folder / "scores" / "evaluation.json").read_text())
    splits = json.loads((folder / "nnUNet_preprocessed" / "Dataset010_Colon" / "splits_final.json").read_text())
    assert sorted({row["case"] for row in scores["cases"]}) == sorted(splits[0]["val"])


def test_the_comparison_is_reported(folder: Path) -> None:
    (page,) = (folder / "nnUNet_results" / "Dataset010_Colon").rglob("report.html")
    assert "ProMISe" in page.read_text(encoding="utf-8")
