"""The demo's steps, clicks, pictures and report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from command_parsing import parse_error

from nnunetv2_promise.cli.demo import main
from nnunetv2_promise.demo import pipeline
from nnunetv2_promise.demo.clicks import list_clicks, score_mask
from nnunetv2_promise.demo.demo_layout import Layout
from nnunetv2_promise.demo.figures import load_view
from nnunetv2_promise.demo.generate import generate
from nnunetv2_promise.files import write_json
from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.prompts.schema import Prompt, load_prompt_file, save_prompt_file
from nnunetv2_promise.steps import Step

# --- clicks


@pytest.mark.parametrize(
    ("mask", "dice", "hit"),
    [
        ([1, 1, 0, 0, 0, 0], 1.0, True),  # the clicked lesion
        ([0, 0, 0, 1, 1, 1], 0.0, False),  # the other one
        ([1, 1, 0, 1, 0, 0], 0.8, True),  # more of the clicked one
        ([0, 1, 0, 1, 0, 0], 0.5, False),  # as much of both
        ([0, 0, 1, 0, 0, 0], 0.0, False),  # between them
        ([0, 0, 0, 0, 0, 0], 0.0, False),  # nothing
    ],
)
def test_score_mask(mask: list[int], dice: float, hit: bool) -> None:
    lesions = np.array([[[1, 1, 0, 2, 2, 2]]])
    assert score_mask(np.array([[mask]], dtype=bool), lesions, 1) == (pytest.approx(dice), hit)


# --- the report, on generated scans with true masks in the place of predictions


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A demo folder of three test scans, one of them oblique, whose masks equal the truth."""
    layout = Layout(tmp_path_factory.mktemp("demo"))
    generate(layout.root / "data", training=0, test=3)
    layout.test_images.mkdir(parents=True)
    prompts = {}
    for image in sorted((layout.data.task / "imagesTs").iterdir()):
        case = image.name.removesuffix(".nii.gz")
        (layout.test_images / f"{case}_0000.nii.gz").symlink_to(image)
        label = sitk.ReadImage(str(layout.data.test_labels / image.name))
        write_mask(label > 0, layout.predictions / image.name)
        voxel_zyx = np.argwhere(sitk.GetArrayFromImage(label))[:1]
        point = ImageGeometry.from_sitk(label).index_zyx_to_points(voxel_zyx, "RAS")[0]
        prompts[case] = [Prompt("tumour", (tuple(point.tolist()),))]
    save_prompt_file(layout.test_images / "prompts.json", prompts, coordinates="RAS")
    pipeline.make_clicks(layout)
    for click in list_clicks(layout.data.test_lesions):
        lesions = sitk.ReadImage(str(layout.data.test_lesions / f"{click.case}.nii.gz"))
        write_mask(lesions == click.lesion, layout.click_predictions / f"{click.name}.nii.gz")
    write_bookkeeping(layout, list(prompts))
    return layout


def write_mask(mask: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.Cast(mask, sitk.sitkUInt8), str(path))


def write_bookkeeping(layout: Layout, cases: list[str]) -> None:
    """What evaluation, planning and training would have left."""
    rows = [{"case": case, "label": "tumour", "dice": 1.0, "nsd": 1.0} for case in cases]
    write_json({"tolerance_mm": 2.0, "summary": {}, "cases": rows}, layout.evaluation / "evaluation.json")
    network = {"network_class_name": "package.Network", "arch_kwargs": {"encoder": {"depth": 4}, "adapters": 2}}
    configuration = {"patch_size": [8, 8, 8], "spacing": [1.5] * 3, "batch_size": 2, "architecture": network}
    write_json({"plans_name": "Plans", "configurations": {"3d_fullres": configuration}}, layout.plans)
    layout.fold.mkdir(parents=True)
    logged = {"train_losses": [0.5, 0.4], "val_losses": [0.25, 0.2], "mean_fg_dice": [0.5, 0.6]}
    torch.save({"logging": logged}, layout.fold / "checkpoint_final.pth")
    for step in pipeline.steps(layout)[:2]:
        write_json(
            {"title": step.title, "command": list(step.command), "seconds": 12.0},
            layout.root / "done" / f"{step.name}.json",
        )


def test_clicks_lie_on_their_lesions_and_images_are_links_to_the_scans(layout: Layout) -> None:
    prompts = load_prompt_file(layout.click_images / "prompts.json")
    clicks = list_clicks(layout.data.test_lesions)
    assert sorted(prompts.cases) == sorted(click.name for click in clicks)
    assert len(clicks) >= 9
    for click in clicks:
        lesions = sitk.ReadImage(str(layout.data.test_lesions / f"{click.case}.nii.gz"))
        ((point,),) = (prompt.points for prompt in prompts.cases[click.name])
        assert lesions[tuple(int(value) for value in point)] == click.lesion
        image = layout.click_images / f"{click.name}_0000.nii.gz"
        assert image.resolve() == layout.data.task / "imagesTs" / f"{click.case}.nii.gz"


def test_view_turns_click_and_masks_together(layout: Layout) -> None:
    prompts = load_prompt_file(layout.test_images / "prompts.json")
    for case, (prompt,) in prompts.cases.items():
        label = layout.data.test_labels / f"{case}.nii.gz"
        view = load_view(
            layout.data.task / "imagesTs" / f"{case}.nii.gz",
            label,
            layout.predictions / f"{case}.nii.gz",
            lesion=1,
            click_xyz=prompt.points[0],
            coordinates="RAS",
        )
        assert view.truth[view.click]
        assert view.truth.sum() == sitk.GetArrayFromImage(sitk.ReadImage(str(label))).sum()
        assert np.array_equal(view.truth, view.mask)
        assert not view.others.any()
        # The spine lies at the back, which is the lower half of an axial picture.
        bone = np.argwhere(view.image > 300)
        assert bone[:, 1].mean() > view.image.shape[1] * 0.55


def test_report_is_one_file_with_every_case_and_its_numbers(layout: Layout) -> None:
    assert main(["-o", str(layout.root), "--only", "report"]) == 0
    page = layout.report.read_text(encoding="utf-8")
    clicks = len(list_clicks(layout.data.test_lesions))
    assert json.loads(layout.results.read_text())["share_of_clicks_that_hit"] == 1.0
    assert json.loads(layout.results.read_text())["clicks"] == clicks
    assert json.loads(layout.results.read_text())["mean_dice_of_every_lesion"] == 1.0
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 1 + 3 + 3
    assert not re.search(r"https?://|<link|<script|url\(", page)
    for text in ("demo_001", "demo_003", f"of {clicks} clicks", "nnUNetv2_promise_plan_and_preprocess -i", "8 x 8 x 8"):
        assert text in page


def test_missed_click_is_counted(layout: Layout) -> None:
    first, second = list_clicks(layout.data.test_lesions)[:2]
    kept = layout.click_predictions / f"{first.name}.nii.gz"
    truth = kept.read_bytes()
    kept.write_bytes((layout.click_predictions / f"{second.name}.nii.gz").read_bytes())
    try:
        assert main(["-o", str(layout.root), "--only", "report"]) == 0
        results = json.loads(layout.results.read_text())
        assert results["clicks_that_hit"] == results["clicks"] - 1
        assert "(missed)" in layout.report.read_text(encoding="utf-8")
    finally:
        kept.write_bytes(truth)


# --- command line


@pytest.mark.parametrize("step", ["clicks", "report"])
def test_step_without_the_earlier_ones_is_one_sentence(
    step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-o", str(tmp_path), "--only", step]) == 2
    message = capsys.readouterr().err
    assert re.fullmatch(
        r"Error: \S+ does not exist; run the whole demo, its earlier steps make that folder\.\n", message
    )


def test_output_that_is_a_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["-o", str(tmp_path / "file")]) == 2
    assert "is a file where a folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("step", pipeline.steps(Layout(Path("demo"))), ids=lambda step: step.name)
def test_every_command_of_the_demo_parses(step: Step) -> None:
    assert parse_error(step.command + step.resume) is None


def test_unknown_option_does_not_parse() -> None:
    assert "--nonsense" in str(parse_error(["nnUNetv2_promise_demo", "-o", "demo", "--nonsense"]))
