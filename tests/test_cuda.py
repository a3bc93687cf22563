"""What only a GPU shows: the same numbers as on the CPU, compiled training, prediction and sessions there."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from commands import MICRO_NETWORK, PATCH, Workspace

from nnunetv2_promise import InteractiveSession
from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file
from nnunetv2_promise.training.losses import ProMISeLoss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def network() -> ProMISe:
    torch.manual_seed(0)
    return ProMISe(**MICRO_NETWORK, patch_size=PATCH)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (2, 1, *PATCH), one point each, and a box as target."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 1, *PATCH, generator=generator)
    target = torch.zeros(2, 1, *PATCH, dtype=torch.uint8)
    target[:, :, 4:11, 6:17, 5:12] = 1
    return images, torch.tensor([[[8.0, 11, 8]], [[5, 7, 6]]]), target


def losses_and_gradients(device: str, *, compiled: bool = False, dtype: torch.dtype | None = None) -> list[np.ndarray]:
    """The loss, and the gradient of each parameter that has one."""
    images, points, target = (part.to(device) for part in batch())
    model = network().to(device)
    run = torch.compile(model) if compiled else model
    with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
        loss = ProMISeLoss()(run(images, points), target)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [part.detach().float().cpu().numpy() for part in (loss, *gradients)]


def relative_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Of all numbers together."""
    a, b = (np.concatenate([part.ravel() for part in parts]) for parts in (found, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("compiled", "dtype", "bound"), [(False, None, 1e-3), (True, None, 1e-3), (True, torch.bfloat16, 0.1)]
)
def test_loss_and_gradients_are_those_of_the_cpu(compiled: bool, dtype: torch.dtype | None, bound: float) -> None:
    expected = losses_and_gradients("cpu")
    found = losses_and_gradients("cuda", compiled=compiled, dtype=dtype)
    assert found[0] == pytest.approx(expected[0], rel=bound)
    assert relative_error(found[1:], expected[1:]) < bound


@pytest.fixture(scope="module")
def trained_on_gpu(workspace: Workspace) -> Workspace:
    """Stock ``nnUNetv2_train`` as users call it, the network compiled; then its weights corrected."""
    plain, correcting = "ProMISeTrainer_1epoch", "ProMISeInteractiveTrainer_1epoch"
    workspace.train(plain, "-device", "cuda", "--npz")
    weights = workspace.model(plain) / "fold_0" / "checkpoint_final.pth"
    workspace.train(correcting, "-device", "cuda", "-pretrained_weights", str(weights))
    return workspace


def test_training_writes_its_validation(trained_on_gpu: Workspace) -> None:
    folder = trained_on_gpu.model("ProMISeInteractiveTrainer_1epoch") / "fold_0"
    curves = json.loads((folder / "validation" / "corrections.json").read_text())
    assert np.isfinite(curves["mean_dice"]["objects"]).all()
    assert json.loads((folder / "run.json").read_text())["seed"] == 0


def test_prediction_on_the_gpu_is_that_on_the_cpu(trained_on_gpu: Workspace) -> None:
    """Probabilities; bfloat16 moves single voxels at the border."""
    file = sorted(trained_on_gpu.images.glob("*_0000.nii.gz"))[0]
    case = file.name.removesuffix("_0000.nii.gz")
    middle = tuple(size / 2 for size in sitk.ReadImage(str(file)).GetSize())
    prompts = trained_on_gpu.root / "prompts.json"
    cases = {path.name.removesuffix("_0000.nii.gz"): [] for path in trained_on_gpu.images.glob("*_0000.nii.gz")}
    save_prompt_file(prompts, cases | {case: [Prompt(1, points=(middle,))]}, coordinates="voxel")
    model = "-m", trained_on_gpu.model("ProMISeTrainer_1epoch"), "-f", "0", "--save_probabilities"
    files = "-i", trained_on_gpu.images, "--prompts", prompts
    found = []
    for device in ("cpu", "cuda"):
        output = trained_on_gpu.root / f"predicted_{device}"
        trained_on_gpu.run("nnUNetv2_promise_predict", *files, "-o", output, *model, "-device", device)
        with np.load(output / f"{case}.npz") as file:
            found.append(file["probabilities"])
    assert found[0].std() > 0
    assert (np.abs(found[1] - found[0]) > 0.05).mean() < 0.01


def test_session_answers_as_on_the_cpu(trained_on_gpu: Workspace) -> None:
    image = sitk.ReadImage(str(sorted(trained_on_gpu.images.glob("*_0000.nii.gz"))[0]))
    middle = [size // 2 for size in image.GetSize()]
    answers = []
    for device in ("cpu", "cuda"):
        session = InteractiveSession(trained_on_gpu.model("ProMISeInteractiveTrainer_1epoch"), device=device)
        session.set_image(sitk.GetArrayFromImage(image), image.GetSpacing(), label=1)
        session.add_point(middle)
        answers.append(session.add_point([middle[0] + 3, *middle[1:]], positive=False))
    assert (answers[0] != answers[1]).mean() < 0.01
