"""The fast network equals the plain formulation: forward, gradients, half precision, compiled, checkpointed, DDP."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator

import pytest
import torch
from oracle_helpers import SAM_LIKE, TINY, gradient_error, gradients, inputs, options, relative_error, twins
from torch import multiprocessing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_promise.network_architectures import ProMISe

CASES = {
    "even grid": {"patch_size": (32, 32, 32)},
    "one window": {"patch_size": (16, 16, 16)},
    "window larger than grid": {"patch_size": (16, 20, 24), "encoder": {**TINY, "window_size": 8}},
    "odd grid, padded windows": {"patch_size": (20, 28, 36)},
    "patch no multiple of 4": {"patch_size": (17, 30, 21)},
    "own windows": {"patch_size": (20, 28, 32), "encoder": {**TINY, "window_size": [5, 7, 4]}},
    "SAM's tables": {"patch_size": (24, 32, 20), "encoder": SAM_LIKE},
    "table finer than grid": {"patch_size": (16, 64, 16), "encoder": SAM_LIKE},
    "five blocks": {"patch_size": (16, 24, 20), "encoder": {**TINY, "depth": 5}},
    "channels": {"patch_size": (16, 20, 24), "in_channels": 3},
    "one adapter": {"patch_size": (16, 20, 24), "adapters": 1},
    "trilinear": {"patch_size": (16, 20, 24), "upsampling": "trilinear"},
    "residual CNN": {"patch_size": (16, 20, 24), "cnn_encoder": "residual", "in_channels": 2},
    "no CNN": {"patch_size": (16, 20, 24), "cnn_encoder": None},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny layers are slower on two threads than on one, and far slower where the cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES)
def test_network_float64_equals_plain(case: str) -> None:
    ours, plain = twins(torch.float64, **CASES[case])
    image, points = inputs(ours, batch=2, points=3)
    with torch.no_grad():
        assert relative_error(ours(image, points), plain(image, points)) < 1e-10
    error, name = gradient_error(gradients(ours, image, points), gradients(plain, image, points))
    assert error < 1e-10, name


@pytest.mark.parametrize("case", CASES)
def test_network_float32_equals_plain(case: str) -> None:
    """Gradients are compared as one vector: a single entry that nearly cancels is no better in the plain network."""
    ours, plain = twins(torch.float32, **CASES[case])
    image, points = inputs(ours, batch=2, points=3, dtype=torch.float32)
    with torch.no_grad():
        assert relative_error(ours(image, points), plain(image, points)) < 1e-5
    found, expected = (gradients(network, image, points) for network in (ours, plain))
    difference = sum(float((found[name] - expected[name]).square().sum()) for name in expected)
    assert difference < (1e-5) ** 2 * sum(float(value.square().sum()) for value in expected.values())


@pytest.mark.parametrize("batch", [1, 3])
def test_network_batch_equals_single_patches(batch: int) -> None:
    ours, _ = twins(patch_size=(20, 16, 24))
    image, points = inputs(ours, batch=batch)
    with torch.no_grad():
        together = ours(image, points)
        alone = torch.cat([ours(image[i : i + 1], points[i : i + 1]) for i in range(batch)])
    assert relative_error(together, alone) < 1e-12


def test_network_encoded_once_decodes_like_forward() -> None:
    ours, _ = twins(patch_size=(20, 16, 24))
    image, _ = inputs(ours)
    with torch.no_grad():
        encoded = ours.encode(image)
        for seed in (1, 2):
            _, points = inputs(ours, points=seed, seed=seed)
            assert torch.equal(ours.decode(encoded, points), ours(image, points))


def network_of_label(network: ProMISe, label: int) -> ProMISe:
    """The one-label network with a label's pair of kernels."""
    alone = ProMISe(**options(patch_size=network.patch_size)).double()
    state = network.state_dict()
    state["mask_decoder.head.3.weight"] = state["mask_decoder.head.3.weight"][2 * label : 2 * label + 2]
    alone.load_state_dict(state)
    return alone


def test_network_of_several_labels_equals_one_network_for_each() -> None:
    torch.manual_seed(0)
    ours = ProMISe(**options(patch_size=(17, 16, 24), labels=3)).double()
    image, points = inputs(ours, batch=2)
    with torch.no_grad():
        each = torch.stack([network_of_label(ours, label)(image, points) for label in range(3)], dim=1)
        assert relative_error(ours(image, points), each) < 1e-12
        wanted = torch.tensor([2, 0])
        assert relative_error(ours(image, points, label_index=wanted), each[[0, 1], wanted]) < 1e-12
        wanted = torch.tensor([[2, 0], [1, 1]])
        assert relative_error(ours(image, points, label_index=wanted), each[[[0], [1]], wanted]) < 1e-12


def test_network_of_one_label_needs_no_index() -> None:
    ours, _ = twins(patch_size=(16, 16, 16))
    image, points = inputs(ours, batch=2)
    with torch.no_grad():
        assert torch.equal(ours(image, points), ours(image, points, label_index=torch.tensor([0, 0])))


def test_network_point_on_blob_follows_the_click() -> None:
    """Points are (axis 0, axis 1, axis 2): the embedding looked up at a voxel is that voxel's, on unequal axes."""
    from nnunetv2_promise.network_architectures.promise.prompt_encoder import look_up_points

    size = (16, 24, 32)
    feature = torch.arange(4 * 6 * 8, dtype=torch.float64).view(1, 1, 6, 8, 4)  # token order: axes 1, 2, 0
    point = torch.tensor([[[5.5, 9.5, 21.5]]], dtype=torch.float64)  # the centre of token (1, 2, 5): 4 i + 1.5
    assert look_up_points(feature, point, size).item() == feature[0, 0, 2, 5, 1].item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_network_autocast_errs_no_more_than_plain(dtype: torch.dtype) -> None:
    ours_errors, plain_errors = [], []
    for seed in range(3):
        ours, plain = twins(torch.float64, seed=seed, patch_size=(32, 32, 32))
        image, points = inputs(ours, seed=seed)
        with torch.no_grad():
            exact = plain(image, points)
            ours, plain = ours.float(), plain.float()
            with torch.autocast("cpu", dtype=dtype):
                for network, errors in ((ours, ours_errors), (plain, plain_errors)):
                    logits = network(image.float(), points.float())
                    assert logits.isfinite().all()
                    errors.append((logits.double() - exact).square().mean())
    assert torch.stack(ours_errors).mean().sqrt() <= 1.05 * torch.stack(plain_errors).mean().sqrt()


def test_network_autocast_training_gives_finite_gradients() -> None:
    ours, _ = twins(torch.float32, patch_size=(20, 16, 16), activation_checkpointing=True)
    image, points = inputs(ours, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(ours, image, points)
    assert len(found) == len(list(ours.parameters()))
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_network_checkpointed_gives_the_same_gradients() -> None:
    plainly, _ = twins(patch_size=(20, 16, 24))
    checkpointed, _ = twins(patch_size=(20, 16, 24), activation_checkpointing=True)
    image, points = inputs(plainly)
    error, name = gradient_error(gradients(checkpointed, image, points), gradients(plainly, image, points))
    assert error < 1e-12, name


def _assert_compiled_equals_eager(backend: str, dtype: torch.dtype = torch.float64, *, most: float = 1e-10) -> None:
    ours, _ = twins(dtype, patch_size=(20, 16, 16))
    image, points = inputs(ours, dtype=dtype)
    expected = gradients(ours, image, points)
    ours.zero_grad(set_to_none=True)
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    found = {name.removeprefix("_orig_mod."): value for name, value in gradients(compiled, image, points).items()}
    error, name = gradient_error(found, expected)
    assert error < most, name
    with torch.no_grad():
        assert relative_error(compiled(image, points), ours(image, points)) < most


def test_network_is_one_graph_for_the_compiler() -> None:
    _assert_compiled_equals_eager("aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the compiler's CPU backend needs gcc")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_network_compiled_equals_eager(dtype: torch.dtype, most: float) -> None:
    if dtype == torch.float64 and not _compiler_knows_double_attention():
        pytest.skip("this PyTorch compiles attention on a CPU for float32 only (pytorch/pytorch#185539)")
    _assert_compiled_equals_eager("inductor", dtype, most=most)


def _compiler_knows_double_attention() -> bool:
    with FakeTensorMode():
        query = torch.empty(1, 1, 2, 8, dtype=torch.float64)
        _, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, query, query)
    return log_sums.dtype == torch.float64


def _ddp_worker(rank: int, port: int, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    ours, _ = twins(patch_size=(20, 16, 16), activation_checkpointing=True)
    ours.freeze_pretrained()
    image, points = inputs(ours, batch=2)
    found = gradients(DistributedDataParallel(ours), image[rank : rank + 1], points[rank : rank + 1])
    if rank == 0:
        torch.save({name.removeprefix("module."): gradient for name, gradient in found.items()}, results)
    torch.distributed.destroy_process_group()


def test_network_ddp_gradients_equal_one_process(tmp_path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_ddp_worker, (port, str(tmp_path / "gradients.pt")), nprocs=2)
    ours, _ = twins(patch_size=(20, 16, 16))
    ours.freeze_pretrained()
    image, points = inputs(ours, batch=2)
    error, name = gradient_error(torch.load(tmp_path / "gradients.pt"), gradients(ours, image, points))
    assert error < 1e-12, name


def test_network_from_scratch_moves_every_parameter() -> None:
    torch.manual_seed(0)
    network = ProMISe(**options(encoder={**TINY, "embed_dim": 64}, in_channels=2, patch_size=(20, 24, 32)))
    image, points = inputs(network, dtype=torch.float32)
    found = gradients(network, image, points)
    still = [name for name, parameter in network.named_parameters() if not found[name].abs().max() > 0]
    assert not still
