"""Splits: the published lists, the paper's shares, nnU-Net's file, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_promise.cli.splits import main
from nnunetv2_promise.dataset.splits import (
    check_splits,
    ensure_usual_splits,
    paper_split,
    read_published_splits,
    require_split,
    write_splits,
)
from nnunetv2_promise.errors import UserError

NAME = "Dataset010_Colon"
CASES = [f"colon_{index:03d}" for index in range(10)]


def published_form(**changes: Any) -> list[dict[str, Any]]:
    """Two folds as in the published files: dicts from case to files."""
    folds = []
    for start in (0, 5):
        order = CASES[start:] + CASES[:start]
        parts = {"train": order[:7], "val": order[7:8], "test": order[8:]}
        folds.append({part: {case: [f"imagesTr/{case}.nii.gz"] for case in cases} for part, cases in parts.items()})
    folds[1] |= changes
    return folds


def dump(content: Any, path: Path) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders with a raw dataset of ten cases; gives the one for ``splits_final.json``."""
    for variable in ("raw", "preprocessed", "results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    entries = {case: {"images": [f"{case}.nii.gz"], "label": f"{case}.nii.gz"} for case in CASES}
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "cancer": 1},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
        "dataset": entries,
    }
    (tmp_path / "raw" / NAME).mkdir()
    (tmp_path / "raw" / NAME / "dataset.json").write_text(json.dumps(content))
    return tmp_path / "preprocessed" / NAME


def written(folder: Path) -> list[dict[str, list[str]]]:
    return json.loads((folder / "splits_final.json").read_text())


@pytest.mark.parametrize(("file", "cases", "sizes"), [("colon", 126, (89, 11, 26)), ("pancreas", 281, (196, 28, 57))])
def test_published_lists_hold_every_case_once_in_each_fold(
    shared: Path, file: str, cases: int, sizes: tuple[int, int, int]
) -> None:
    path = shared / "data" / "promise_splits" / f"{file}_split.pkl"
    folds = read_published_splits(path)
    assert len(folds) == 5
    assert tuple(len(folds[0][part]) for part in ("train", "val", "test")) == sizes
    everything = {case for fold in folds for part in fold.values() for case in part}
    assert len(everything) == cases
    assert all(case.startswith(file) for case in everything)
    check_splits(folds, everything, path)
    assert sorted(case for fold in folds for case in fold["test"]) == sorted(everything)


def test_import_writes_what_nnunet_reads(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(dump(published_form(), tmp_path / "a.pkl")), "-d", "10"]) == 0
    assert str(folders / "splits_final.json") in capsys.readouterr().out
    folds = written(folders)
    assert folds[0] == {"train": CASES[:7], "val": CASES[7:8], "test": CASES[8:]}
    assert folds[1] == {"train": sorted(CASES[5:] + CASES[:2]), "val": CASES[2:3], "test": CASES[3:5]}


def test_nnunet_trains_without_the_test_cases(folders: Path, tmp_path: Path) -> None:
    """nnU-Net's own reading of the file, on an empty stand-in for its dataset."""
    from types import SimpleNamespace

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    main(["import", str(dump(published_form(), tmp_path / "a.pkl")), "-d", "10"])
    trainer = SimpleNamespace(
        dataset_class=lambda *args, **kwargs: None,
        fold=1,
        preprocessed_dataset_folder="",
        preprocessed_dataset_folder_base=str(folders),
        folder_with_segs_from_previous_stage=None,
        print_to_log_file=lambda *args: None,
    )
    train, val = nnUNetTrainer.do_split(trainer)
    assert (train, val) == (written(folders)[1]["train"], written(folders)[1]["val"])
    assert not {*train, *val} & set(CASES[3:5])


def test_usual_folds_are_those_of_nnunet_and_existing_ones_stay(folders: Path) -> None:
    """nnU-Net's own first training, which finds no file, writes the same."""
    from types import SimpleNamespace

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = SimpleNamespace(
        dataset_class=lambda *args, **kwargs: SimpleNamespace(identifiers=CASES),
        fold=2,
        preprocessed_dataset_folder="",
        preprocessed_dataset_folder_base=str(folders),
        folder_with_segs_from_previous_stage=None,
        print_to_log_file=lambda *args: None,
    )
    folders.mkdir(parents=True, exist_ok=True)
    nnUNetTrainer.do_split(trainer)
    theirs = (folders / "splits_final.json").rename(folders / "theirs.json")
    ensure_usual_splits(folders, reversed(CASES))
    assert written(folders) == json.loads(theirs.read_text())
    ensure_usual_splits(folders, CASES[:5])
    assert written(folders) == json.loads(theirs.read_text())


def test_one_fold_of_a_list_becomes_fold_0(folders: Path, tmp_path: Path) -> None:
    main(["import", str(dump(published_form(), tmp_path / "a.pkl")), "-d", "10", "--fold", "1"])
    (fold,) = written(folders)
    assert fold["test"] == CASES[3:5]


def test_lists_of_names_are_read_like_dicts(tmp_path: Path) -> None:
    as_lists = [{part: list(cases) for part, cases in fold.items()} for fold in published_form()]
    read = [read_published_splits(dump(form, tmp_path / "a.pkl")) for form in (published_form(), as_lists)]
    assert read[0] == read[1]


@given(st.integers(3, 400), st.integers(0, 10**6))
def test_paper_split_has_the_shares_and_every_case_once(number: int, seed: int) -> None:
    cases = [f"case_{index}" for index in range(number)]
    folds = paper_split(reversed(cases), seed=seed)
    check_splits(folds, cases, "split")
    assert folds == paper_split(cases, seed=seed)
    assert abs(len(folds[0]["test"]) - 0.2 * number) <= 0.5
    assert max(1, 0.1 * number - 0.5) <= len(folds[0]["val"]) <= max(1, 0.1 * number + 0.5)


def test_paper_split_differs_between_seeds_and_is_fair() -> None:
    tested = [frozenset(paper_split(CASES, seed=seed)[0]["test"]) for seed in range(300)]
    assert len(set(tested)) > 35  # of 45 pairs
    share = [sum(case in test for test in tested) / 300 for case in CASES]
    assert all(0.1 < value < 0.3 for value in share)


def test_paper_split_stays_the_same_in_every_version() -> None:
    (fold,) = paper_split(CASES)
    assert fold["test"] == ["colon_002", "colon_006"]
    assert fold["val"] == ["colon_001"]


def test_paper_command(folders: Path) -> None:
    assert main(["paper", "-d", "10", "--seed", "4"]) == 0
    assert written(folders) == paper_split(CASES, seed=4)
    assert [len(written(folders)[0][part]) for part in ("train", "val", "test")] == [7, 1, 2]


def test_another_existing_split_is_kept_unless_overwritten(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "-d", "10"]) == 0
    first = written(folders)
    assert main(["paper", "-d", "10"]) == 0
    capsys.readouterr()
    assert main(["paper", "-d", "10", "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert written(folders) == first
    assert main(["paper", "-d", "10", "--seed", "1", "--overwrite"]) == 0
    assert written(folders) == paper_split(CASES, seed=1)


def test_overlap_between_folds_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folds = read_published_splits(dump(published_form(), tmp_path / "a.pkl"))
    write_splits(folds[:1], tmp_path / "one")
    assert "ensemble" not in caplog.text
    write_splits(folds, tmp_path / "two")
    assert "never an ensemble" in caplog.text


class Runs:
    """Unpickling it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = dump([{"train": Runs(f"touch {trace}"), "val": [], "test": []}], tmp_path / "evil.pkl")
    with pytest.raises(UserError, match=r"evil\.pkl refers to posix\.system") as error:
        read_published_splits(path)
    assert not trace.exists()
    assert str(error.value).count(". ") == 0
    pickle.loads(path.read_bytes())  # the file would do it
    assert trace.exists()


PICKLES: list[tuple[bytes, str]] = [
    (b"cposix\nsystem\n(S'true'\ntR.", "refers to posix.system"),
    (b"(S'true'\niposix\nsystem\n.", "refers to posix.system"),
    (pickle.dumps({1, 2}, protocol=2), "refers to __builtin__.set"),
    (b"Psomething\n.", "refers to an object outside"),
    (b"\x82\x01.", "damaged or is not a pickle"),
    (b"", "damaged or is not a pickle"),
    (b"not a pickle at all", "damaged or is not a pickle"),
    (pickle.dumps(published_form())[:-40], "damaged or is not a pickle"),
    (b"(I1\nl(I2\nlb.", "damaged or is not a pickle"),
    (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged or is not a pickle"),
    (pickle.dumps({"train": []}), "holds no list of folds"),
    (pickle.dumps([]), "holds no list of folds"),
    (pickle.dumps([["colon_001"]]), "fold 0 is not a dict of exactly"),
    (pickle.dumps(published_form(extra=[])), "fold 1 is not a dict of exactly"),
    (pickle.dumps([{"train": [], "val": []}]), "fold 0 is not a dict of exactly"),
    (pickle.dumps(published_form(val="colon_001")), "fold 1 has no list of case names under 'val'"),
    (pickle.dumps(published_form(test=[1])), "fold 1 has no list of case names under 'test'"),
]


@pytest.mark.parametrize(("content", "message"), PICKLES)
def test_bad_file_is_refused_in_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_published_splits(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith(".")


@given(st.binary(max_size=60))
def test_no_file_ends_in_another_error(content: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with pytest.raises(UserError):
            read_published_splits(file.name)


def change(part: str, edit: Callable[[list[str]], Any]) -> list[dict[str, list[str]]]:
    """Two folds of names, of which the second is edited."""
    folds = [{name: list(cases) for name, cases in fold.items()} for fold in published_form()]
    edit(folds[1][part])
    return folds


BAD_FOLDS: list[tuple[list[dict[str, list[str]]], str]] = [
    (change("train", lambda cases: cases.append(CASES[3])), r"'colon_003' more than once \(train, test\)"),
    (change("val", lambda cases: cases.append(CASES[0])), r"'colon_000' more than once \(train, val\)"),
    (change("train", lambda cases: cases.append(CASES[0])), r"'colon_000' more than once \(train, train\)"),
    (change("train", lambda cases: cases.remove(CASES[0])), r"leaves out 'colon_000' \(1 of 10 cases\)"),
    (change("test", lambda cases: cases.append("liver_1")), "names 'liver_1', which is not a case"),
    (change("val", lambda cases: cases.clear()), "no case in 'val'"),
    (change("train", lambda cases: cases.clear()), "no case in 'train'"),
]


@pytest.mark.parametrize(("folds", "message"), BAD_FOLDS)
def test_bad_folds_are_refused_and_nothing_is_written(
    folds: list[dict[str, list[str]]],
    message: str,
    folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = dump(folds, tmp_path / "bad.pkl")
    with pytest.raises(UserError, match=f"fold 1 .*{message}"):
        check_splits(read_published_splits(path), CASES, path)
    assert main(["import", str(path), "-d", "10"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {path}: fold 1")
    assert error.count("\n") == 1
    assert not folders.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere.pkl", "-d", "10"], "nowhere.pkl does not exist"),
        (["import", "GOOD", "-d", "10", "--fold", "2"], "folds 0 to 1; --fold 2 is none"),
        (["import", "GOOD", "-d", "10", "--fold", "-1"], "folds 0 to 1; --fold -1 is none"),
        (["paper", "-d", "11"], "No dataset 011"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = dump(published_form(), tmp_path / "good.pkl")
    assert main([str(good) if word == "GOOD" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folders.exists()


@pytest.mark.parametrize("arguments", [[], ["paper"], ["paper", "-d", "0"], ["paper", "-d", "10", "--seed", "x"]])
def test_bad_options_end_with_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_two_cases_are_too_few() -> None:
    with pytest.raises(UserError, match="needs three"):
        paper_split(["a", "b"])


def test_broken_existing_file_is_named(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.mkdir()
    (folders / "splits_final.json").write_text("[{")
    assert main(["paper", "-d", "10"]) == 2
    assert "splits_final.json is not valid JSON" in capsys.readouterr().err
    assert main(["paper", "-d", "10", "--overwrite"]) == 0


KNOWN = [f"case_{index}" for index in range(6)]


def write_folds(folder: Path, folds: object) -> None:
    (folder / "splits_final.json").write_text(json.dumps(folds))


def test_require_split_without_a_file_needs_five_cases(tmp_path: Path) -> None:
    require_split(tmp_path, KNOWN[:5], 0)
    require_split(tmp_path, KNOWN[:1], "all")
    with pytest.raises(UserError, match=r"4 training case\(s\), too few for nnU-Net's 5 folds; train fold 'all'"):
        require_split(tmp_path, KNOWN[:4], 0)


def test_require_split_refuses_folds_that_leave_out_a_later_case(tmp_path: Path) -> None:
    write_folds(tmp_path, [{"train": KNOWN[:3], "val": KNOWN[3:5]}])
    require_split(tmp_path, KNOWN[:5], 0)
    require_split(tmp_path, KNOWN, "all")
    with pytest.raises(UserError, match=r"fold 0 does not name case 'case_5' \(1 in all\)"):
        require_split(tmp_path, KNOWN, 0)
    write_folds(tmp_path, [{"train": KNOWN[:3], "val": KNOWN[3:5], "test": KNOWN[5:]}])
    require_split(tmp_path, KNOWN, 0)


@pytest.mark.parametrize("content", [{}, [[]], [{"train": []}], "x"])
def test_require_split_refuses_what_is_not_a_list_of_folds(content: object, tmp_path: Path) -> None:
    write_folds(tmp_path, content)
    with pytest.raises(UserError, match="is not a list of folds"):
        require_split(tmp_path, KNOWN, 0)
