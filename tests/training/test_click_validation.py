"""Corrective clicks with a network whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from generated_msd import write_volume
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_promise.network_architectures.interactive.channels import (
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
)
from nnunetv2_promise.training import click_validation
from nnunetv2_promise.training.click_validation import CLICKS, automatic_labels, correct_object, dice

PATCH = (16, 16, 16)


def _follow_clicks(x: torch.Tensor) -> torch.Tensor:
    """Answers with the mask, with what is near to positive clicks, without what is near to negative ones."""
    interactions = x[:, 1:]
    wanted = (interactions[:, PREVIOUS_MASK] > 0) | (interactions[:, POSITIVE_POINTS] > 0.5)
    wanted &= interactions[:, NEGATIVE_POINTS] <= 0.5
    return torch.stack([~wanted, wanted], dim=1).float()


def _correct(truth, mask, network=_follow_clicks):
    image = torch.zeros(1, *truth.shape)
    return correct_object(network, image, truth, mask, patch_size=PATCH, spacing_zyx_mm=(1, 1, 1))


def test_each_click_repairs_what_it_falls_on():
    truth, mask = np.zeros((2, 24, 24, 24), dtype=bool)
    truth[4:8, 4:8, 4:8] = True
    mask[18:22, 18:22, 18:22] = True
    scores = _correct(truth, mask)
    assert len(scores) == CLICKS + 1
    assert 0 == scores[0] < scores[1] < scores[2]  # one error was missed, the other spilled
    assert scores == sorted(scores)


@pytest.mark.parametrize("inside", [False, True])
def test_the_patch_is_centred_on_the_newest_click_and_padded_beyond_the_scan_or_moved_inside(inside: bool):
    image = torch.arange(1.0, 1 + 9 * 10 * 11).view(1, 9, 10, 11)
    truth = np.zeros((9, 10, 11), dtype=bool)
    truth[1, 2, 8] = True
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return _follow_clicks(x)

    correct_object(network, image, truth, truth & False, patch_size=(4, 6, 8), spacing_zyx_mm=(1, 1, 1), inside=inside)
    expected = np.zeros((4, 6, 8))
    if inside:
        expected[:] = image[0, :4, :6, 3:]  # from (0, 0, 3)
    else:
        expected[1:, 1:, :7] = image[0, :3, :5, 4:]  # from (-1, -1, 4)
    np.testing.assert_array_equal(seen[0][0, 0].numpy(), expected)
    assert inside or not seen[0][0, 1:, 0].any()  # nothing was clicked or answered beyond the scan
    clicked = (1, 2, 5) if inside else (2, 3, 4)
    assert seen[0][0, 1 + POSITIVE_POINTS].argmax() == np.ravel_multi_index(clicked, (4, 6, 8))


def test_a_perfect_mask_is_not_clicked():
    truth = np.zeros((16, 16, 16), dtype=bool)
    truth[2:4, 2:4, 2:4] = True

    def never(x):
        raise AssertionError("clicked")

    assert _correct(truth, truth.copy(), never) == [1.0] * (CLICKS + 1)


def test_a_mask_that_has_become_right_keeps_its_dice():
    """Two voxels far from each other, of which each click adds one."""
    truth = np.zeros((24, 24, 24), dtype=bool)
    truth[3, 4, 5] = truth[20, 19, 18] = True

    def network(x: torch.Tensor) -> torch.Tensor:
        wanted = (x[:, 1 + PREVIOUS_MASK] > 0) | (x[:, 1 + POSITIVE_POINTS] == 1)
        return torch.stack([~wanted, wanted], dim=1).float()

    scores = _correct(truth, truth & False, network)
    assert scores == pytest.approx([0, 2 / 3, 1, 1, 1, 1])  # before the first click and after each of five


def test_corrections_start_from_the_mask_that_validation_wrote(tmp_path: Path):
    """The image is cropped to its content and its axes are exchanged, as nnU-Net's preprocessing may."""
    labels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    write_volume(labels, tmp_path / "validation" / "a.nii.gz")
    plans = SimpleNamespace(image_reader_writer_class=SimpleITKIO, transpose_forward=[2, 0, 1])
    trainer = SimpleNamespace(output_folder=str(tmp_path), plans_manager=plans, dataset_json={"file_ending": ".nii.gz"})
    start = automatic_labels(trainer, "a", {"bbox_used_for_cropping": [[1, 6], [0, 3], [2, 5]]})
    np.testing.assert_array_equal(start, labels[:3, 2:, 1:].transpose(2, 0, 1))


@pytest.mark.parametrize(("automatic", "placement"), [(True, "centred"), (False, "inside")])
def test_every_object_of_every_case_is_corrected(
    automatic: bool, placement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label 2 has two objects; the automatic mask is right on the first of them and misses the other.

    Beside the first it has a label of which there is no object.
    """
    labels = np.zeros((12, 14, 16), dtype=np.int16)
    labels[1:4, 1:4, 1:4] = 2
    labels[8:10, 9:12, 9:12] = 2
    found = np.where(np.arange(12)[:, None, None] < 6, labels, 0)
    found[4, 1:4, 1:4] = 3
    loaded = (np.ones((1, *labels.shape)), labels[None], None, {"spacing": (1.0, 1.0, 1.0)})
    asked: list[list[str]] = []

    def dataset_class(folder: str, keys: list[str]) -> SimpleNamespace:
        asked.append([folder, *keys])
        return SimpleNamespace(load_case=lambda key: loaded)

    seen: list[int] = []

    def follow(x: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        holds_scan = x[0, 0].any(-1).any(-1).nonzero()
        seen.extend((int(holds_scan.min()), int(holds_scan.max())))
        return _follow_clicks(x)

    network = torch.nn.Module()
    rows: list[dict] = []
    monkeypatch.setattr(click_validation, "automatic_labels", lambda trainer, key, properties: found)
    monkeypatch.setattr(click_validation, "_write", lambda trainer, written: rows.extend(written))
    click_validation.validate_clicks(
        SimpleNamespace(
            is_ddp=False,
            set_deep_supervision_enabled=lambda enabled: asked.append([str(enabled)]),
            network=network,
            do_split=lambda: (["c"], ["a", "b"]),
            dataset_class=dataset_class,
            preprocessed_dataset_folder="folder",
            device=torch.device("cpu"),
            label_manager=SimpleNamespace(foreground_labels=[1, 2]),
            configuration_manager=SimpleNamespace(
                patch_size=PATCH, configuration={"interactive": {"placement": placement}}
            ),
        ),
        follow,
        automatic=automatic,
    )
    # The case has 12 voxels along z and the patch 16: moved inside, it starts two voxels before the scan.
    assert ({2, 13} >= {int(place) for place in seen}) == (placement == "inside")
    assert asked == [["False"], ["folder", "a", "b"]]
    assert not network.training
    assert [(row["case"], row["label"], row["voxels"]) for row in rows] == [
        ("a", 2, 27),
        ("a", 2, 18),
        ("b", 2, 27),
        ("b", 2, 18),
    ]
    assert [row["dice"][0] for row in rows[:2]] == ([1.0, 0.0] if automatic else [0.0, 0.0])
    assert rows[1]["dice"][1] > 0


def test_dice_by_hand():
    truth = np.array([[[True, True, False]]])
    assert dice(np.array([[[True, False, True]]]), truth) == pytest.approx(0.5)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_writes_what_was_scored(rank: int, tmp_path: Path):
    (tmp_path / "validation").mkdir()
    lines: list[str] = []
    trainer = SimpleNamespace(
        is_ddp=False, local_rank=rank, output_folder=str(tmp_path), print_to_log_file=lines.append
    )
    rows = [
        {"case": "a", "label": 1, "voxels": 8, "dice": [0.2, 0.5]},
        {"case": "b", "label": 2, "voxels": 3, "dice": [0.4, 0.7]},
    ]
    click_validation._write(trainer, rows)
    file = tmp_path / "validation" / "clicks.json"
    assert file.is_file() == (rank == 0)
    if rank == 0:
        written = json.loads(file.read_text())
        assert written["objects"] == rows
        assert written["mean_dice"] == pytest.approx([0.3, 0.6])
        assert lines == ["Mean Dice at 0 to 5 corrective clicks: 0.3000, 0.6000"]


def test_what_all_processes_scored_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "validation").mkdir()
    own, others = ([{"case": case, "label": 1, "voxels": 8, "dice": [value]}] for case, value in (("a", 0.2), ("b", 1)))

    def gather(gathered: list, rows: list) -> None:
        assert gathered == [None, None]
        gathered[:] = [rows, others]

    monkeypatch.setattr(click_validation.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(click_validation.distributed, "all_gather_object", gather)
    trainer = SimpleNamespace(
        is_ddp=True, local_rank=0, output_folder=str(tmp_path), print_to_log_file=lambda line: None
    )
    click_validation._write(trainer, own)
    written = json.loads((tmp_path / "validation" / "clicks.json").read_text())
    assert written == {"mean_dice": pytest.approx([0.6]), "objects": [*own, *others]}


def test_nothing_scored_writes_nothing(tmp_path: Path):
    (tmp_path / "validation").mkdir()
    click_validation._write(SimpleNamespace(is_ddp=False, local_rank=0, output_folder=str(tmp_path)), [])
    assert not list((tmp_path / "validation").iterdir())
