"""Steps of a job, and what a measured command leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunetv2_promise.benchmark import measure
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import locked
from nnunetv2_promise.steps import Step, read_stamp, run_steps


def python_step(name: str, code: str, **more: object) -> Step:
    return Step(name, f"Do {name}", (sys.executable, "-c", code), **more)


def note(folder: Path, text: str) -> str:
    """Code that appends a word to a file."""
    return f"open({str(folder / 'trace')!r}, 'a').write({text!r})"


def run(steps: list[Step], folder: Path) -> list[str]:
    said: list[str] = []
    run_steps(steps, folder, {"PROMISE_TEST": "7"}, said.append)
    return said


def test_steps_run_in_order_and_not_again(tmp_path: Path) -> None:
    steps = [python_step(name, note(tmp_path, name)) for name in "abc"]
    said = run(steps, tmp_path)
    assert (tmp_path / "trace").read_text() == "abc"
    assert sum(line.count("$ ") for line in said) == 3
    said = run(steps, tmp_path)
    assert (tmp_path / "trace").read_text() == "abc"
    assert all("done before" in line for line in said)


def test_a_step_has_variables_of_its_own_and_its_line_names_them(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'trace')!r}, 'a').write(os.environ['PROMISE_TEST'])"
    own = python_step("a", code, environment={"PROMISE_TEST": "8 9"})
    run([own, python_step("b", code)], tmp_path)
    assert (tmp_path / "trace").read_text() == "8 97"
    subprocess.run(own.line, shell=True, check=True)
    assert (tmp_path / "trace").read_text() == "8 978 9"
    assert not python_step("b", code).line.startswith("env ")


def test_changed_command_runs_again_with_all_after_it(tmp_path: Path) -> None:
    run([python_step(name, note(tmp_path, name)) for name in "abc"], tmp_path)
    run([python_step(name, note(tmp_path, name.upper() if name == "b" else name)) for name in "abc"], tmp_path)
    assert (tmp_path / "trace").read_text() == "abcBc"


def test_failed_step_names_its_log_and_later_runs_go_on_from_it(tmp_path: Path) -> None:
    broken = python_step("b", "print('the cause'); raise SystemExit(3)")
    with pytest.raises(UserError, match=r"exit code 3; read .*b\.txt"):
        run([python_step("a", note(tmp_path, "a")), broken, python_step("c", note(tmp_path, "c"))], tmp_path)
    assert "the cause" in (tmp_path / "logs" / "b.txt").read_text()
    run([python_step(name, note(tmp_path, name)) for name in "abc"], tmp_path)
    assert (tmp_path / "trace").read_text() == "abc"


def test_interrupted_step_is_resumed_but_not_when_its_input_changed(tmp_path: Path) -> None:
    def steps(first: str) -> list[Step]:
        show = f"import sys; open({str(tmp_path / 'trace')!r}, 'a').write(' '.join(sys.argv[1:]) + ';')"
        return [
            python_step("a", first),
            python_step("b", show, resume=("--c",), resumable=lambda: True),
        ]

    run([steps("pass")[0]], tmp_path)
    run(steps("pass"), tmp_path)
    assert (tmp_path / "trace").read_text() == "--c;"
    assert json.loads((tmp_path / "done" / "b.json").read_text())["resumed"] is True
    run(steps("1"), tmp_path)
    assert (tmp_path / "trace").read_text() == "--c;;"


def test_steps_get_the_environment_and_missing_commands_are_named(tmp_path: Path) -> None:
    run([python_step("a", "import os; assert os.environ['PROMISE_TEST'] == '7'")], tmp_path)
    with pytest.raises(UserError, match="no_such_command is not installed"):
        run([Step("b", "Fail", ("no_such_command",))], tmp_path)


def test_only_what_needs_a_changed_step_runs_again(tmp_path: Path) -> None:
    def steps(b: str) -> list[Step]:
        needs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b",)}
        codes = {"a": "a", "b": b, "c": "c", "d": "d"}
        return [python_step(name, note(tmp_path, codes[name]), needs=needs[name]) for name in "abcd"]

    run(steps("b"), tmp_path)
    run(steps("B"), tmp_path)
    assert (tmp_path / "trace").read_text() == "abcdBd"


def test_what_an_interrupted_step_feeds_is_not_taken_for_done(tmp_path: Path) -> None:
    ok = [python_step(name, note(tmp_path, name), needs=needs) for name, needs in (("a", ()), ("b", ("a",)))]
    run(ok, tmp_path)
    with pytest.raises(UserError):
        run([python_step("a", "raise SystemExit(1)", needs=()), ok[1]], tmp_path)
    assert read_stamp(tmp_path, "b") is None


def test_what_a_result_was_made_from_decides_and_not_the_command(tmp_path: Path) -> None:
    def steps(word: str, made_from: object) -> list[Step]:
        return [python_step("a", note(tmp_path, word), needs=(), made_from=lambda: made_from)]

    run(steps("1", {"checkpoint": "x"}), tmp_path)
    run(steps("2", {"checkpoint": "x"}), tmp_path)
    run(steps("3", {"checkpoint": "y"}), tmp_path)
    assert (tmp_path / "trace").read_text() == "13"


def test_a_step_is_resumed_only_if_it_was_begun_from_the_same(tmp_path: Path) -> None:
    show = f"import sys; open({str(tmp_path / 'trace')!r}, 'a').write(' '.join(sys.argv[1:]) + ';'); "

    def step(made_from: str, end: str) -> list[Step]:
        more = {"resume": ("--c",), "resumable": lambda: True, "needs": (), "made_from": lambda: made_from}
        return [python_step("a", show + end, **more)]

    with pytest.raises(UserError):
        run(step("x", "raise SystemExit(1)"), tmp_path)
    with pytest.raises(UserError):
        run(step("y", "raise SystemExit(1)"), tmp_path)
    run(step("y", "pass"), tmp_path)
    assert (tmp_path / "trace").read_text() == ";;--c;"


def test_functions_run_here_and_results_of_others_are_kept(tmp_path: Path) -> None:
    seen: list[str] = []
    steps = [
        python_step("a", note(tmp_path, "a"), already=lambda: True, needs=()),
        Step("b", "Call", ("#", "b"), action=lambda: seen.append("b"), needs=("a",)),
    ]
    run(steps, tmp_path)
    run(steps, tmp_path)
    assert seen == ["b"]
    assert not (tmp_path / "trace").exists()


def test_quiet_steps_say_our_commands_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    step = python_step("a", "print('loud'); print('Error: the disk is full.'); raise SystemExit(2)")
    with pytest.raises(UserError, match=r"exit code 2 \(the disk is full\); read"):
        run_steps([step], tmp_path, {}, lambda line: None, echo=False)
    assert "loud" not in capfd.readouterr().out
    assert "loud" in (tmp_path / "logs" / "a.txt").read_text()


def test_a_lock_keeps_others_out_until_its_holder_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from nnunetv2_promise.files import locked\n"
        f"with locked(Path({str(tmp_path / 'x.lock')!r}), wait_seconds=0, doing='x'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    refused = pytest.raises(UserError, match="Another process is counting")
    with refused, locked(tmp_path / "x.lock", wait_seconds=0.3, doing="counting"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "x.lock", wait_seconds=5, doing="counting"):
        assert (tmp_path / "x.lock").exists()


def test_cost_adds_up_over_interruptions(tmp_path: Path) -> None:
    record = tmp_path / "cost.json"
    record.write_text(json.dumps({"seconds": 1000.0, "device": "cpu", "peak_memory_bytes": 1 << 60}))
    command = [*measure.prefix(record), "nnUNetv2_promise_path"]
    resumed = "from nnunetv2_promise.benchmark import measure; measure._RESUMING.add('nnUNetv2_promise_path'); "
    resumed += f"raise SystemExit(measure.main([{str(record)!r}, '--', 'nnUNetv2_promise_path']))"
    done = subprocess.run([sys.executable, "-c", resumed], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("nnunet_trainers")
    content = json.loads(record.read_text())
    assert 1000 < content["seconds"] < 1100
    assert content["peak_memory_bytes"] == 1 << 60
    record.unlink()
    subprocess.run(command, capture_output=True, check=True)
    assert 1e7 < json.loads(record.read_text())["peak_memory_bytes"] < 1e10


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["nnUNetv2_promise_evaluate", "-p", "nowhere", "-l", "nowhere"], 2, "Error: "),
        (["no_such_command"], 1, "Error: The command no_such_command is not installed"),
    ],
)
def test_a_failed_command_leaves_no_cost(tmp_path: Path, command: list[str], code: int, message: str) -> None:
    record = tmp_path / "cost.json"
    done = subprocess.run([*measure.prefix(record), *command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert not record.exists()


def test_a_measured_command_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """SIGKILL of the benchmark must not leave a training behind that the next run would meet."""
    prefix = measure.prefix(tmp_path / "cost.json")
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([*{prefix!r}, 'nnUNetv2_promise_prompts', 'check', {str(tmp_path / 'pipe')!r}, '-i', "
        f"{str(tmp_path)!r}], start_new_session=True)\n"
        "print(p.pid, flush=True)\n"
        "p.wait()"
    )
    os.mkfifo(tmp_path / "pipe")  # opening it waits for a writer
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    lock = tmp_path / "cost.lock"
    wait_until(lock.exists, 60)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not is_running(child), 20)


def wait_until(condition, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
