"""Images and clicks as they are found in real life, given to the commands: the right masks, or one sentence."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from commands import DATASET_ID, PLANS, Workspace, only_error
from generated_msd import write_volume
from nifti_headers import AFFINE, ARRAY_XYZ, REFUSED, UNDERSTOOD, write_nifti

from nnunetv2_promise.cli import predict as predict_command
from nnunetv2_promise.cli import prompts as prompts_command
from nnunetv2_promise.inference.object_faults import EMPTY, MISSED
from nnunetv2_promise.prompts.schema import PROMPTS_VARIABLE, Prompt, save_prompt_file

CLICK = (14, 12, 8)
"""(x, y, z) voxel of a test image that lies on its cancer."""


@pytest.fixture
def model(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The trained model for commands that run in this process."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, trained.environment()[name])
    monkeypatch.delenv(PROMPTS_VARIABLE, raising=False)
    return trained


@pytest.fixture
def scan(trained: Workspace) -> np.ndarray:
    """(20, 28, 24) int16, one of the workspace's test images."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(trained.images / "scan_008_0000.nii.gz")))


def clicks(folder: Path, cases: dict[str, list[Sequence[float]]], *, coordinates: str = "voxel") -> None:
    """A prompt file for a folder: one object for each point."""
    prompts = {
        case: [Prompt("cancer", (tuple(map(float, point)),)) for point in points] for case, points in cases.items()
    }
    save_prompt_file(folder / "prompts.json", prompts, coordinates=coordinates)


def predict(images: Path, output: Path, *options: str) -> int:
    chosen = ["-d", DATASET_ID, "-tr", "ProMISeTrainer_1epoch", "-p", PLANS, "-device", "cpu", "-np", "1"]
    return predict_command.main(["-i", str(images), "-o", str(output), *chosen, *options])


def check(images: Path) -> int:
    return prompts_command.main(["check", str(images / "prompts.json"), "-i", str(images)])


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# Headers.


@pytest.mark.parametrize(("made", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_header_is_refused_by_checking_and_predicting_in_the_same_words(
    made: nibabel.Nifti1Image | bytes, expected: str, model: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_nifti(made, tmp_path / "a_0000.nii.gz")
    clicks(tmp_path, {"a": [(4, 4, 3)]})
    for command in (lambda: check(tmp_path), lambda: predict(tmp_path, tmp_path / "out")):
        assert command() == 2
        line = only_error(capsys.readouterr().err)
        assert re.search(expected, line)
        assert "a_0000.nii.gz" in line
    assert not (tmp_path / "out").exists()


def test_a_ras_click_by_nibabel_gives_one_mask_whatever_the_header(model: Workspace, tmp_path: Path) -> None:
    """And nibabel finds that mask on its image."""
    headers = dict(UNDERSTOOD)
    headers["big-endian"] = nibabel.Nifti1Image(ARRAY_XYZ, AFFINE, nibabel.Nifti1Header(endianness=">"))
    headers["fourth axis of one"] = nibabel.Nifti1Image(ARRAY_XYZ[..., None], AFFINE)
    headers["64 bits"] = nibabel.Nifti1Image(ARRAY_XYZ.astype(np.int64), AFFINE, dtype=np.int64)
    headers["floats"] = nibabel.Nifti1Image(ARRAY_XYZ.astype(np.float64), AFFINE)
    scaled = (ARRAY_XYZ.astype(np.int32) + 1024).astype(np.uint16)
    headers["offset"] = nibabel.Nifti1Image(scaled, AFFINE)
    headers["offset"].header.set_slope_inter(1, -1024)
    points, names = {}, {}
    for number, (name, made) in enumerate(headers.items()):
        file = write_nifti(made, tmp_path / f"c{number}_0000.nii.gz")
        points[f"c{number}"] = [(nibabel.load(file).affine @ [4, 4, 3, 1])[:3]]
        names[name] = f"c{number}"
    clicks(tmp_path, points, coordinates="RAS")
    assert check(tmp_path) == 0
    assert predict(tmp_path, tmp_path / "out", "--save_probabilities") == 0
    plain = np.load(tmp_path / "out" / f"{names['plain']}.npz")["probabilities"]
    assert np.ptp(plain[2]) > 1e-3
    for name, case in names.items():
        written = nibabel.load(tmp_path / "out" / f"{case}.nii.gz")
        np.testing.assert_allclose(written.affine, nibabel.load(tmp_path / f"{case}_0000.nii.gz").affine, atol=1e-4)
        if name != "scaled values":  # whose voxels mean something else
            found = np.load(tmp_path / "out" / f"{case}.npz")["probabilities"]
            np.testing.assert_allclose(found, plain, atol=1e-4, err_msg=name)


# Compression.


def members(content: bytes) -> bytes:
    return b"".join(gzip.compress(content[start : start + 5000]) for start in range(0, len(content), 5000))


FILES: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "as written": (gzip.compress, True),
    "several members": (members, True),
    "zeros behind": (lambda content: gzip.compress(content) + b"\0" * 512, True),
    "garbage behind": (lambda content: gzip.compress(content) + b"\r\n--boundary--\r\n", False),
    "not compressed": (lambda content: content, False),
    "compressed twice": (lambda content: gzip.compress(gzip.compress(content)), False),
    "cut off": (lambda content: gzip.compress(content)[:-2000], False),
}


@pytest.mark.parametrize(("pack", "sound"), FILES.values(), ids=FILES.keys())
def test_checking_and_predicting_judge_a_compressed_file_alike(
    pack: Callable[[bytes], bytes], sound: bool, model: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = gzip.decompress((model.images / "scan_008_0000.nii.gz").read_bytes())
    (tmp_path / "a_0000.nii.gz").write_bytes(pack(content))
    clicks(tmp_path, {"a": [CLICK]})
    for command in (lambda: check(tmp_path), lambda: predict(tmp_path, tmp_path / "out")):
        code = command()
        assert code == (0 if sound else 2)
        if not sound:
            assert "a_0000.nii.gz cannot be read" in only_error(capsys.readouterr().err)
    assert (tmp_path / "out" / "a.nii.gz").is_file() == sound


# Names, sizes, places.


def test_every_name_gets_a_mask_of_its_own(model: Workspace, tmp_path: Path, scan: np.ndarray) -> None:
    names = ["1.2.840.113619.2.55", "case_0001_0000", "pat ient 7", "Prüfling_é", "x_0000_0001", "UPPER", "upper"]
    for name in names:
        write_volume(scan, tmp_path / f"{name}_0000.nii.gz")
    (tmp_path / "._UPPER_0000.nii.gz").write_bytes(b"\0\5\26\7mac")
    clicks(tmp_path, {name: [CLICK] for name in names})
    assert predict(tmp_path, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == sorted(f"{n}.nii.gz" for n in names)


def test_name_that_itk_changes_is_refused(model: Workspace, tmp_path: Path, scan: np.ndarray, capsys) -> None:
    write_volume(scan, tmp_path / "a.nii_0000.nii.gz")
    clicks(tmp_path, {"a.nii": [CLICK]})
    assert predict(tmp_path, tmp_path / "out") == 2
    assert "rename it, for example to 'a_nii'" in only_error(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_thin_and_tiny_images_get_masks_on_their_grid(model: Workspace, tmp_path: Path, scan: np.ndarray) -> None:
    x, y, z = CLICK
    images = {
        "slice": (scan[z : z + 1], (x, y, 0)),
        "row": (scan[:, y : y + 1], (x, 0, z)),
        "tiny": (scan[z - 1 : z + 2, y - 3 : y + 3, x - 2 : x + 4], (2, 3, 1)),
        "voxel": (scan[z : z + 1, y : y + 1, x : x + 1], (0, 0, 0)),
        "zeros": (np.zeros((9, 9, 9), np.int16), (4, 4, 4)),
    }
    for name, (array, _) in images.items():
        write_volume(array, tmp_path / f"{name}_0000.nii.gz")
    clicks(tmp_path, {name: [click] for name, (_, click) in images.items()})
    assert predict(tmp_path, tmp_path / "out") == 0
    for name in images:
        image, mask = (sitk.ReadImage(str(tmp_path / file)) for file in (f"{name}_0000.nii.gz", f"out/{name}.nii.gz"))
        assert mask.GetSize() == image.GetSize()
        assert mask.GetOrigin() == pytest.approx(image.GetOrigin())
        assert mask.GetSpacing() == pytest.approx(image.GetSpacing())


def test_click_in_zero_padding_gives_nothing_and_says_so(
    model: Workspace, tmp_path: Path, scan: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    padded = np.zeros((40, 50, 60), np.int16)
    padded[: scan.shape[0], : scan.shape[1], : scan.shape[2]] = scan + 300
    write_volume(padded, tmp_path / "a_0000.nii.gz")
    write_volume(scan + 300, tmp_path / "b_0000.nii.gz")
    clicks(tmp_path, {"a": [(55, 45, 35), (26, 12, 8), CLICK], "b": [CLICK]})
    with caplog.at_level(logging.WARNING):
        assert predict(tmp_path, tmp_path / "out", "--instances") == 0
    table = pd.read_csv(tmp_path / "out" / "objects.csv")
    assert table.loc[table["case"] == "a", "volume_ml"].tolist()[:2] == [0, 0]
    assert sum("zeros around the scan" in record.getMessage() for record in caplog.records) == 2
    mask = read(tmp_path / "out" / "a.nii.gz")
    assert not mask[scan.shape[0] :].any()
    assert not mask[:, scan.shape[1] :].any()
    assert not mask[:, :, scan.shape[2] :].any()
    np.testing.assert_array_equal(mask[tuple(map(slice, scan.shape))], read(tmp_path / "out" / "b.nii.gz"))


def test_click_in_air_is_answered_there_or_with_a_warning(
    model: Workspace, tmp_path: Path, scan: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    air = scan.copy()
    air[:, :, 18:] = -1000
    write_volume(air, tmp_path / "a_0000.nii.gz")
    clicks(tmp_path, {"a": [(22, 2, 2), CLICK]})
    with caplog.at_level(logging.WARNING):
        assert predict(tmp_path, tmp_path / "out", "--instances") == 0
    table = pd.read_csv(tmp_path / "out" / "objects.csv")
    for row, (x, y, z) in zip(table.itertuples(), [(22, 2, 2), CLICK], strict=True):
        assert row.holds_click == (read(tmp_path / "out" / row.file)[z, y, x] == 1)
        lines = [line for line in map(logging.LogRecord.getMessage, caplog.records) if f"object {row.object} (" in line]
        said = any(words in line for words in (EMPTY, MISSED) for line in lines)
        assert said != row.holds_click


def test_coarse_slices_are_predicted_on_their_grid(model: Workspace, tmp_path: Path, scan: np.ndarray) -> None:
    write_volume(scan, tmp_path / "a_0000.nii.gz", spacing=(0.2, 0.2, 20))
    clicks(tmp_path, {"a": [CLICK]})
    assert predict(tmp_path, tmp_path / "out") == 0
    mask = sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))
    assert mask.GetSpacing() == pytest.approx((0.2, 0.2, 20))
    assert mask.GetSize() == scan.shape[::-1]


def test_overlapping_objects_do_not_depend_on_the_order_of_their_clicks(
    model: Workspace, tmp_path: Path, scan: np.ndarray
) -> None:
    for name in "ab":
        write_volume(scan, tmp_path / f"{name}_0000.nii.gz")
    both = [Prompt(label, (tuple(map(float, CLICK)),)) for label in ("cancer", "organ")]
    save_prompt_file(tmp_path / "prompts.json", {"a": both, "b": both[::-1]}, coordinates="voxel")
    assert predict(tmp_path, tmp_path / "out") == 0
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.nii.gz"), read(tmp_path / "out" / "b.nii.gz"))


@pytest.mark.parametrize(("objects", "repeated"), [(40, 200), pytest.param(400, 1667, marks=pytest.mark.slow)])
def test_many_objects_and_many_clicks_on_one(
    objects: int, repeated: int, model: Workspace, tmp_path: Path, scan: np.ndarray
) -> None:
    """The order of clicks does not matter however many there are, and each object is a row."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, scan.shape[::-1], size=(objects, 3))
    near = [(14.0, 12.0, 8.0), (13.0, 12.0, 8.0), (14.0, 13.0, 9.0)]
    for name in "abc":
        write_volume(scan, tmp_path / f"{name}_0000.nii.gz")
    cases = {
        "a": [Prompt("cancer", (tuple(map(float, place)),)) for place in places],
        "b": [Prompt("cancer", tuple(near * repeated))],
        "c": [Prompt("cancer", tuple(near * repeated)[::-1])],
    }
    save_prompt_file(tmp_path / "prompts.json", cases, coordinates="voxel")
    assert predict(tmp_path, tmp_path / "out", "--instances") == 0
    table = pd.read_csv(tmp_path / "out" / "objects.csv")
    assert table["case"].value_counts().to_dict() == {"a": objects, "b": 1, "c": 1}
    np.testing.assert_array_equal(read(tmp_path / "out" / "b.nii.gz"), read(tmp_path / "out" / "c.nii.gz"))


# Datasets.


def test_simulate_clicks_on_every_case_of_a_decathlon_folder_that_counts_from_0000(tmp_path: Path, capsys) -> None:
    label = np.zeros((6, 7, 8), np.uint8)
    for number in range(3):
        label[2:4, 2:5, 3 + number] = 1
        write_volume(label.astype(np.int16), tmp_path / "imagesTr" / f"hippo_{number:04d}.nii.gz")
        write_volume(label, tmp_path / "labelsTr" / f"hippo_{number:04d}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "organ"}}))
    folders = ["-i", str(tmp_path / "imagesTr"), "-l", str(tmp_path / "labelsTr")]
    assert prompts_command.main(["simulate", *folders, "-o", str(tmp_path / "p.json")]) == 0
    assert "3 cases, 3 objects" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "p.json").read_text())["cases"]) == [f"hippo_{n:04d}" for n in range(3)]
