"""The documented prompt file, commands and Python run as they stand in the documentation."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.cli import evaluate, prompts
from nnunetv2_promise.prompts.schema import load_prompt_file

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
MAINS: dict[str, Callable] = {"nnUNetv2_promise_prompts": prompts.main, "nnUNetv2_promise_evaluate": evaluate.main}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REFERENCE / page).read_text(), flags=re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = re.findall(r"^    (nnUNetv2_promise_\w+ .*)$", (REFERENCE / page).read_text(), flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the documented commands work."""
    label = np.zeros((8, 9, 10), np.uint8)
    label[2:5, 2:6, 3:8] = 1
    for folder, name in (("imagesTs", "a_0000"), ("labelsTs", "a"), ("predictions", "a")):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(label), str(tmp_path / folder / f"{name}.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_documented_prompt_files_are_valid(tmp_path: Path) -> None:
    first, second = blocks("prompt-json.md", "json")
    (tmp_path / "prompts.json").write_text(first)
    loaded = load_prompt_file(tmp_path / "prompts.json")
    assert loaded.cases["colon_002"] == ()
    assert len(loaded.cases["colon_001"][1].points) == 2
    (tmp_path / "prompts.json").write_text(second)
    corrected, boxed, scribbled = load_prompt_file(tmp_path / "prompts.json").cases["colon_001"]
    assert [click.positive for click in corrected.clicks] == [True, False, True]
    assert boxed.box[3:] == (160.0, 211.0, 63.0)
    assert len(scribbled.scribbles[0]) == 3


@pytest.mark.parametrize("page", ["prompt-json.md", "evaluation.md"])
def test_documented_commands_run(page: str, dataset: Path) -> None:
    run = 0
    for program, *arguments in commands(page):
        if "fold_0/validation" not in arguments:
            assert MAINS[program](arguments) == 0
            run += 1
    assert run >= 1


@pytest.mark.parametrize("page", ["prompt-json.md", "evaluation.md"])
def test_documented_python_runs(page: str, dataset: Path, capsys: pytest.CaptureFixture) -> None:
    (block,) = blocks(page, "python")
    exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(("program", "subcommand"), [(prompts, "simulate"), (prompts, "check"), (evaluate, None)])
def test_documented_options_exist(program: object, subcommand: str | None, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        program.main([subcommand, "--help"] if subcommand else ["--help"])
    shown = capsys.readouterr().out
    page = "prompt-json.md" if subcommand == "simulate" else "evaluation.md"
    if subcommand != "check":
        documented = re.findall(r"^\| `(--?\w+)", (REFERENCE / page).read_text(), flags=re.MULTILINE)
        assert len(documented) > 4
        assert [option for option in documented if option not in shown] == []
    assert "example" in shown
