"""Where patches lie in nnInteractive's stock engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clickable_workspace import PATCH, Clickable

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.nninteractive_batch import open_engine
from nnunetv2_promise.planning.nninteractive_folder import read_nninteractive_folder
from nnunetv2_promise.planning.unet_settings import engine_placement

SHAPE = (20, 20, 30)
CLICK = (2, 9, 28)
"""In a patch of 16 x 24 x 24: near the border along z and x, in a scan that is too short along y."""


@pytest.mark.parametrize(
    ("placement", "start"), [("inside", (0, -2, 6)), ("centred", (-6, -3, 16)), (None, (-6, -3, 16))]
)
def test_patches_lie_where_the_plans_say(
    clickable: Clickable, tmp_path: Path, placement: str | None, start: tuple[int, int, int]
) -> None:
    model = shutil.copytree(clickable.model, tmp_path / "model")
    plans = json.loads((model / "plans.json").read_text())
    entry = plans["configurations"]["3d_fullres"]["interactive"]
    assert entry.pop("placement") == "inside"  # as planned
    if placement is not None:
        entry["placement"] = placement
    (model / "plans.json").write_text(json.dumps(plans))
    session = open_engine(read_nninteractive_folder(model), "cpu")
    session.set_do_autozoom(False)
    scan = np.random.default_rng(0).uniform(1, 2, (1, *SHAPE)).astype(np.float32)
    session.set_image(scan)
    answer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(answer)
    seen: list[torch.Tensor] = []
    session.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].float()))
    session.add_point_interaction(CLICK, True)

    normalised = (scan[0] - scan.mean()) / scan.std()
    expected, expected_answer = np.zeros(PATCH), np.zeros(SHAPE)
    with torch.no_grad():
        answered = session.network(seen[0])[0].argmax(0).numpy()
    for voxel in np.ndindex(*PATCH):
        place = tuple(np.add(voxel, start))
        if all(0 <= p < length for p, length in zip(place, SHAPE, strict=True)):
            expected[voxel], expected_answer[place] = normalised[place], answered[voxel]
    np.testing.assert_allclose(seen[0][0, 0], expected, atol=2e-3)  # the engine keeps half precision
    np.testing.assert_array_equal(answer, expected_answer)


def test_a_zoomed_patch_stays_centred(clickable: Clickable) -> None:
    session = open_engine(read_nninteractive_folder(clickable.model), "cpu")
    session.set_image(np.random.default_rng(0).uniform(1, 2, (1, *SHAPE)).astype(np.float32))
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_point_interaction(CLICK, True, run_prediction=False)
    boxes = [session._build_network_input(CLICK, zoom)[2] for zoom in (1, 1.5)]
    assert boxes == [[[0, 16], [-2, 22], [6, 30]], [[-10, 14], [-9, 27], [10, 46]]]


def test_an_unknown_place_is_refused() -> None:
    assert engine_placement({}) == engine_placement({"interactive": {}}) == "centred"
    with pytest.raises(UserError, match=r"interactive\.placement is 'outside'; use one of 'centred', 'inside'"):
        engine_placement({"interactive": {"placement": "outside"}})
