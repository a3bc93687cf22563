"""The demo's HTML report: one file with every picture in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.demo import figures
from nnunetv2_promise.demo.clicks import SUFFIX, ScoredClick
from nnunetv2_promise.demo.demo_layout import CONFIGURATION, TRAINER, Layout
from nnunetv2_promise.demo.headline import CaseScore, commands, headline, read_case_scores, settings
from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.html_page import render
from nnunetv2_promise.inference.model_folder import read_checkpoint
from nnunetv2_promise.prompts.schema import PROMPTS_NAME, PromptFile, load_prompt_file

_INTRODUCTION = (
    "The scans are generated. Several lesions stand in each, all drawn from one distribution, and all of them are "
    "labelled. A click asks for one of them: the mask has to hold that one and leave its neighbours out. The test "
    "scans and their truth took no part in planning or training."
)
_KEY = (
    (figures.MASK, "mask"),
    (figures.TRUTH, "truth of the clicked lesion"),
    (figures.OTHERS, "other lesions"),
    (figures.CLICK, "click"),
)


def write_report(layout: Layout, clicks: Sequence[ScoredClick], steps: Sequence[str]) -> None:
    """Write ``report.html`` and ``results.json``.

    Args:
        layout: Where the steps' files lie.
        clicks: The scored clicks on every lesion.
        steps: Names of the demo's steps in order; the commands of those that are done are shown.
    """
    scores, tolerance_mm = read_case_scores(layout.evaluation)
    results = headline(scores, clicks)
    done = commands(layout.root / "done", steps)
    exports = [f"export {name}={value}" for name, value in layout.environment().items()]
    page = render(
        "demo.html",
        introduction=_INTRODUCTION,
        results=results,
        tolerance_mm=f"{tolerance_mm:g}",
        scores=[(score.case, f"{score.dice:.3f}", f"{score.nsd:.3f}") for score in scores],
        total=(
            "mean ± sd",
            *(f"{results[f'mean_{name}']:.3f} ± {results[f'sd_{name}']:.3f}" for name in ("dice", "nsd")),
        ),
        training=figures.training_curve(read_checkpoint(layout.fold / "checkpoint_final.pth")["logging"]),
        key=_KEY,
        labelled=_chosen_lesions(layout, scores),
        every=_every_lesion(layout, clicks),
        settings=settings(read_json(layout.plans), CONFIGURATION, TRAINER),
        durations=[(title, duration) for title, _, duration in done],
        commands=[*exports, *(command for _, command, _ in done)],
        logs=_logs(layout.root, steps),
    )
    with atomic_path(layout.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_json(results, layout.results)


def _chosen_lesions(layout: Layout, scores: Sequence[CaseScore]) -> list[dict[str, str]]:
    """For each test scan the three planes through its click."""
    prompts = load_prompt_file(layout.test_images / PROMPTS_NAME)
    pictures = []
    for score in scores:
        lesion = _chosen_lesion(layout.data.test_labels, layout.data.test_lesions, score.case)
        view = _view(layout, prompts, score.case, score.case, lesion, layout.predictions)
        caption = f"Dice {score.dice:.3f}, NSD {score.nsd:.3f}"
        pictures.append({"case": score.case, "caption": caption, "url": figures.three_planes(view)})
    return pictures


def _every_lesion(layout: Layout, clicks: Sequence[ScoredClick]) -> list[dict[str, str]]:
    """For each test scan the axial plane through the click on each of its lesions."""
    prompts = load_prompt_file(layout.click_images / PROMPTS_NAME)
    pictures = []
    for case in dict.fromkeys(click.case for click in clicks):
        of_case = [click for click in clicks if click.case == case]
        views = [_view(layout, prompts, click.name, case, click.lesion, layout.click_predictions) for click in of_case]
        titles = [f"lesion {click.lesion}: {click.dice:.2f}" + ("" if click.hit else " (missed)") for click in of_case]
        pictures.append({"case": case, "caption": "; ".join(titles), "url": figures.axial_tiles(views, titles)})
    return pictures


def _view(layout: Layout, prompts: PromptFile, name: str, case: str, lesion: int, masks: Path) -> figures.View:
    """The picture of one mask."""
    return figures.load_view(
        layout.data.task / "imagesTs" / f"{case}{SUFFIX}",
        layout.data.test_lesions / f"{case}{SUFFIX}",
        masks / f"{name}{SUFFIX}",
        lesion=lesion,
        click_xyz=prompts.cases[name][0].points[0],
        coordinates=prompts.coordinates,
    )


def _chosen_lesion(labels: Path, lesions: Path, case: str) -> int:
    """Which lesion of a scan was chosen."""
    import SimpleITK as sitk  # noqa: N813

    label, lesion_map = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}{SUFFIX}"))) for folder in (labels, lesions)
    )
    return int(lesion_map[label > 0].max())


def _logs(root: Path, names: Sequence[str]) -> list[str]:
    """The files of what the steps' commands printed, from the report's folder."""
    return [f"logs/{name}.txt" for name in names if (root / "logs" / f"{name}.txt").is_file()]
