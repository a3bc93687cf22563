"""The demo's HTML report: one file with every picture in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_promise import html_page as page
from nnunetv2_promise.demo import figures
from nnunetv2_promise.demo.clicks import SUFFIX, ScoredClick
from nnunetv2_promise.demo.headline import CaseScore, commands, headline, read_case_scores, settings
from nnunetv2_promise.demo.training_log import read_curve
from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.prompts.schema import PROMPTS_NAME, PromptFile, load_prompt_file

if TYPE_CHECKING:
    from nnunetv2_promise.demo.pipeline import Layout

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


def write_report(layout: Layout, clicks: Sequence[ScoredClick]) -> None:
    """Write ``report.html`` and ``results.json``.

    Args:
        layout: Where the steps' files lie.
        clicks: The scored clicks on every lesion.
    """
    from nnunetv2_promise.demo.pipeline import CONFIGURATION, TRAINER, steps

    scores, tolerance_mm = read_case_scores(layout.evaluation)
    results = headline(scores, clicks)
    done = commands(layout.root / "done", [step.name for step in steps(layout)])
    exports = [f"export {name}={value}" for name, value in layout.environment().items()]
    parts = [
        page.paragraph(_INTRODUCTION),
        _headline_numbers(results, tolerance_mm),
        page.heading("Scores of one lesion in each scan"),
        _score_table(scores, results),
        page.heading("Training"),
        _training(layout),
        page.heading("One click in each scan"),
        page.colour_key(_KEY),
        *_chosen_lesions(layout, scores),
        page.heading("A click on every lesion"),
        page.paragraph("The same scans, the same network: each click has to give its own lesion."),
        page.colour_key(_KEY),
        *_every_lesion(layout, clicks),
        page.heading("Settings"),
        page.table(("setting", "value"), settings(read_json(layout.plans), CONFIGURATION, TRAINER)),
        page.heading("Commands"),
        page.table(("step", "seconds"), [(title, duration) for title, _, duration in done], numeric=1),
        page.code([*exports, *(command for _, command, _ in done)]),
        _logs(layout.root, [step.name for step in steps(layout)]),
    ]
    with atomic_path(layout.report) as temporary:
        temporary.write_text(page.page("One click, one tumour mask: the demo's report", parts), encoding="utf-8")
    write_json(results, layout.results)


def _headline_numbers(results: dict[str, float | int], tolerance_mm: float) -> str:
    return page.numbers(
        [
            (f"{results['mean_dice']:.3f}", f"mean Dice, {results['cases']} unseen scans, one click each"),
            (f"{results['mean_nsd']:.3f}", f"mean normalised surface Dice (NSD) at {tolerance_mm:g} mm"),
            (f"{results['share_of_clicks_that_hit']:.1%}", f"of {results['clicks']} clicks gave the clicked lesion"),
            (f"{results['mean_dice_of_every_lesion']:.3f}", "mean Dice over all clicked lesions"),
        ]
    )


def _score_table(scores: Sequence[CaseScore], results: dict[str, float | int]) -> str:
    rows = [(score.case, f"{score.dice:.3f}", f"{score.nsd:.3f}") for score in scores]
    spread = [f"{results[f'mean_{name}']:.3f} ± {results[f'sd_{name}']:.3f}" for name in ("dice", "nsd")]
    return page.table(("case", "Dice", "NSD"), rows, total=("mean ± sd", *spread), numeric=2)


def _training(layout: Layout) -> str:
    curve = read_curve(layout.fold)
    if not curve.epochs:
        return page.paragraph("No finished epoch was found in the training log.")
    return page.picture(figures.training_curve(curve), "loss and Dice over epochs")


def _chosen_lesions(layout: Layout, scores: Sequence[CaseScore]) -> list[str]:
    """For each test scan the three planes through its click."""
    prompts = load_prompt_file(layout.test_images / PROMPTS_NAME)
    parts = []
    for score in scores:
        lesion = _chosen_lesion(layout.data.test_labels, layout.data.test_lesions, score.case)
        view = _view(layout, prompts, score.case, score.case, lesion, layout.predictions)
        parts.append(page.heading(score.case, level=3))
        parts.append(page.paragraph(f"Dice {score.dice:.3f}, NSD {score.nsd:.3f}", quiet=True))
        parts.append(page.picture(figures.three_planes(view), f"{score.case}: three planes through the click"))
    return parts


def _every_lesion(layout: Layout, clicks: Sequence[ScoredClick]) -> list[str]:
    """For each test scan the axial plane through the click on each of its lesions."""
    prompts = load_prompt_file(layout.click_images / PROMPTS_NAME)
    parts = []
    for case in dict.fromkeys(click.case for click in clicks):
        of_case = [click for click in clicks if click.case == case]
        views = [_view(layout, prompts, click.name, case, click.lesion, layout.click_predictions) for click in of_case]
        titles = [f"lesion {click.lesion}: {click.dice:.2f}" + ("" if click.hit else " (missed)") for click in of_case]
        parts.append(page.heading(case, level=3))
        parts.append(page.picture(figures.axial_tiles(views, titles), f"{case}: {'; '.join(titles)}"))
    return parts


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


def _logs(root: Path, names: Sequence[str]) -> str:
    """Links to what the steps' commands printed."""
    found = [f"logs/{name}.txt" for name in names if (root / "logs" / f"{name}.txt").is_file()]
    return (
        "<p>Logs: " + ", ".join(f'<a href="{name}">{Path(name).stem}</a>' for name in found) + "</p>" if found else ""
    )
