"""nnInteractive's stock engine, server and client drive a trained folder, on a CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from clickable_workspace import Clickable
from commands import DATASET_ID, PLANS, Workspace, shrink
from nnInteractive.inference.inference_session import nnInteractiveInferenceSession
from nnInteractive.inference.remote.remote_session import (
    ServerAtCapacityError,
    nnInteractiveRemoteInferenceSession,
)

from nnunetv2_promise.files import write_json
from nnunetv2_promise.inference.placement import overlap
from nnunetv2_promise.network_architectures.interactive.channels import NEGATIVE_POINTS, POINT_RADIUS, POSITIVE_POINTS
from nnunetv2_promise.trainers import ProMISeInteractiveTrainer
from nnunetv2_promise.training.nninteractive_files import inference_info, write_nninteractive_files

SHAPE = (20, 28, 24)
KEY = "a key"


def scan() -> np.ndarray:
    """(1, D, H, W): a bright cube in noise."""
    image = np.random.default_rng(0).normal(100, 5, (1, *SHAPE)).astype(np.float32)
    image[0, 6:12, 8:16, 8:16] += 80
    return image


@pytest.fixture
def session(clickable: Clickable) -> nnInteractiveInferenceSession:
    session = nnInteractiveInferenceSession(device=torch.device("cpu"), torch_n_threads=1, do_autozoom=False)
    session.initialize_from_trained_model_folder(str(clickable.model), 0)
    session.set_image(scan())
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    return session


def test_engine_loads_the_folder_with_its_capabilities(session: nnInteractiveInferenceSession):
    assert session.license.startswith("No licence stated")
    assert session.supported_interactions["points"]
    assert not session.supported_interactions["scribble"]
    assert session.supports_initial_label


def test_engine_hands_clicks_to_the_network_and_pastes_its_answer(session: nnInteractiveInferenceSession):
    seen = []
    session.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].float()))
    session.add_point_interaction((9, 12, 12), True)
    session.add_point_interaction((3, 4, 4), False)
    depth, height, width = (size // 2 for size in seen[0].shape[2:])
    assert seen[0][0, 1 + POSITIVE_POINTS, depth, height, width] == pytest.approx(1, abs=1e-3)
    assert seen[1][0, 1 + NEGATIVE_POINTS, depth, height, width] == pytest.approx(1, abs=1e-3)
    assert seen[1][0, 1 + POSITIVE_POINTS].max() == pytest.approx(0.98, abs=1e-3)
    with torch.no_grad():
        answer = session.network(seen[1])[0].argmax(0).numpy()
    start = [place - length // 2 for place, length in zip((3, 4, 4), answer.shape, strict=True)]
    in_patch, in_scan = overlap(start, answer.shape, SHAPE)
    np.testing.assert_array_equal(session.target_buffer[in_scan], answer[in_patch])


def test_engine_undoes_and_resets(session: nnInteractiveInferenceSession):
    session.add_point_interaction((9, 12, 12), True)
    one = session.target_buffer.copy()
    session.add_point_interaction((9, 20, 12), True)
    assert session.undo()
    np.testing.assert_array_equal(session.target_buffer, one)
    session.reset_interactions()
    assert not session.target_buffer.any()


def test_engine_corrects_an_initial_mask(session: nnInteractiveInferenceSession):
    """Without what was learned, in seconds, a click changes nothing beyond its ball."""
    for level in session.network.corrections["seg_layers"].levels:
        for parameter in level[-1].parameters():
            parameter.data.zero_()
    mask = np.zeros(SHAPE, np.uint8)
    mask[6:12, 8:16, 8:16] = 1
    session.add_initial_seg_interaction(mask)
    np.testing.assert_array_equal(session.target_buffer, mask)
    session.add_point_interaction((7, 9, 9), False)
    changed = np.argwhere(session.target_buffer != mask)
    assert [7, 9, 9] in changed.tolist()
    assert np.linalg.norm(changed - (7, 9, 9), axis=1).max() <= POINT_RADIUS
    assert session.interactions[0].any()


def test_engine_takes_a_click_outside_of_the_scan_without_harm(session: nnInteractiveInferenceSession):
    session.add_point_interaction((9, 12, 12), True)
    before = session.target_buffer.copy()
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        session.add_point_interaction((900, 12, 12), True)
    np.testing.assert_array_equal(session.target_buffer, before)


def test_engine_refuses_what_the_model_does_not_take(session: nnInteractiveInferenceSession):
    with pytest.raises(ValueError, match="bounding box"):
        session.add_bbox_interaction([[2, 8], [2, 8], [2, 8]], True)


def test_engine_drives_promise_that_corrects(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    planner, plans_name = "ProMISeInteractiveTinyPlanner", "ProMISeInteractiveTinyPlans"
    workspace.run("nnUNetv2_promise_plan_and_preprocess", "-d", DATASET_ID, "-pl", planner, "--no_pp")
    plans = json.loads((workspace.preprocessed / f"{plans_name}.json").read_text())
    shrink(plans["configurations"]["3d_fullres"])
    plans["configurations"]["3d_fullres"]["data_identifier"] = f"{PLANS}_3d_fullres"  # nothing is trained: any data
    dataset = json.loads((workspace.preprocessed / "dataset.json").read_text())
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, workspace.environment()[variable])
    arguments = (plans | {"continue_training": False}, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer = ProMISeInteractiveTrainer(*arguments)
    trainer.initialize()
    model = Path(trainer.output_folder_base)
    write_json(plans, model / "plans.json")
    write_json(dataset, model / "dataset.json")
    trainer.save_checkpoint(str(model / "fold_0" / "checkpoint_final.pth"))
    write_nninteractive_files(trainer, inference_info(initial_label=True))

    session = nnInteractiveInferenceSession(device=torch.device("cpu"), torch_n_threads=1, do_autozoom=False)
    session.initialize_from_trained_model_folder(str(model), 0)
    session.set_image(scan())
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_point_interaction((9, 12, 12), True)
    first = session.target_buffer.copy()
    session.add_point_interaction((4, 4, 4), False)
    assert session.undo()
    np.testing.assert_array_equal(session.target_buffer, first)


@contextmanager
def serving(model: Path, *options: str) -> Iterator[str]:
    """The stock server in a process of its own; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("nninteractive-server"), "--model-dir", model, "--fold", "0"]
    command += ["--device", "cpu", "--no-torch-compile", "--no-autozoom", "--torch-n-threads", "1", "--port", port]
    process = subprocess.Popen(
        [*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, process.stdout.read()
            try:
                httpx.get(f"{url}/healthz", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def test_stock_server_and_client_click_undo_and_refuse(clickable: Clickable):
    with serving(clickable.model, "--api-key", KEY, "--max-sessions", "1") as url:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            nnInteractiveRemoteInferenceSession(url, api_key="another key")
        with nnInteractiveRemoteInferenceSession(url, api_key=KEY) as client:
            assert client.license.startswith("No licence stated")
            with pytest.raises(ServerAtCapacityError):
                nnInteractiveRemoteInferenceSession(url, api_key=KEY)
            client.set_image(scan())
            mask = np.zeros(SHAPE, np.uint8)
            client.set_target_buffer(mask)
            client.add_point_interaction((9, 12, 12), True)
            first = mask.copy()
            assert first.any()
            client.add_point_interaction((3, 4, 4), False)
            assert client.undo()
            np.testing.assert_array_equal(mask, first)
        with nnInteractiveRemoteInferenceSession(url, api_key=KEY) as another:  # the place is free again
            assert another.supported_interactions["points"]
