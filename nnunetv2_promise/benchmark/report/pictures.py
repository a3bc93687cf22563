"""Pictures of the best, the median and the worst case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.benchmark.report.grouping import ALL_LABELS, case_scores, in_group, plain_scores, plain_systems
from nnunetv2_promise.benchmark.report.names import system_names
from nnunetv2_promise.benchmark.results import BenchmarkResults, PictureFiles
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry, check_inside, geometry_difference
from nnunetv2_promise.images.objects import crop_to_object, deepest_voxel
from nnunetv2_promise.images.reading import read_geometry, read_label_map, read_volume
from nnunetv2_promise.prompts.schema import Prompt, load_prompt_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CasePicture:
    """One case under one system.

    Attributes:
        rank: ``"best"``, ``"median"`` or ``"worst"``.
        case: Case identifier.
        system: The system.
        caption: What is seen, in plain words.
        figure: Three slices.
    """

    rank: str
    case: str
    system: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class _Place:
    """Where the slices of a case are cut.

    Attributes:
        label: Whose contours are drawn.
        index_zyx: (3,) continuous index.
        clicks: How many clicks the object got; the place is the first of them. 0: nobody clicked here.
    """

    label: str
    index_zyx: NDArray[np.float64]
    clicks: int = 0


def shown_system(results: BenchmarkResults) -> str:
    """The system whose cases are ranked: the promptable one with the highest mean Dice, or the best of all."""
    systems = plain_systems(results)
    prompted = systems[systems["condition"] == "clicks"]
    candidates = (prompted if len(prompted) else systems).index
    means = case_scores(plain_scores(results), "dice").reindex(columns=candidates).mean()
    return str(means.fillna(-1.0).idxmax())


def ranked_cases(results: BenchmarkResults, system: str) -> dict[str, str]:
    """The best, median and worst case of a system by Dice, among those with files; fewer if there are fewer cases.

    Of equal cases the first by name is taken; of an even number the lower median.
    """
    dice = case_scores(plain_scores(results), "dice")[system].dropna()
    with_files = dice[[(system, case) in results.files for case in dice.index]]
    order = with_files.sort_values(ascending=False, kind="stable").index.tolist()
    if not order:
        return {}
    ranks = {"best": order[0], "worst": order[-1], "median": order[len(order) // 2]}
    chosen = {case: rank for rank, case in reversed(ranks.items())}
    return {rank: case for rank in ("best", "median", "worst") for case, named in chosen.items() if named == rank}


def case_pictures(results: BenchmarkResults) -> Iterator[CasePicture]:
    """Best, median and worst case of ``shown_system``, each followed by the reference on the same slices.

    The contours are of one label: the first that was clicked, or without clicks the largest. The slices go through the
    first click on it, or without clicks through the middle of that label. A reference without clicks is shown on the
    slices of ``shown_system``, without its click.

    Raises:
        UserError: If a file cannot be read, or lies on another grid than the image.
    """
    system = shown_system(results)
    names = system_names(results)
    for rank, case in ranked_cases(results, system).items():
        place = _place(results, results.files[system, case], case)
        for shown in dict.fromkeys((system, results.reference)):
            files = results.files.get((shown, case))
            if files is None:
                continue
            here = replace(place, clicks=0) if files.prompts is None else _place(results, files, case)
            caption = f"{names[shown]}: {_dice_in_words(results, shown, case, here)}"
            yield CasePicture(rank, case, shown, caption, _draw(results, files, here, title=caption))


def _dice_in_words(results: BenchmarkResults, system: str, case: str, place: _Place) -> str:
    """Dice of the label whose contours are seen, and of the case where it has more labels."""
    scores = plain_scores(results)
    scores = scores[(scores["system"] == system) & (scores["case"] == case)]
    groups = {f"label {place.label}": place.label} | ({ALL_LABELS: ALL_LABELS} if len(results.labels) > 1 else {})
    parts = []
    for name, group in groups.items():
        dice = case_scores(in_group(scores, group), "dice").to_numpy()
        defined = dice.size and not np.isnan(dice).all()
        parts.append(f"{name} {np.nanmean(dice):.3f}" if defined else f"{name} undefined")
    return f"Dice of {', of '.join(parts)}" + (f"; first of {place.clicks} clicks" if place.clicks > 1 else "")


def _place(results: BenchmarkResults, files: PictureFiles, case: str) -> _Place:
    geometry = read_geometry(files.image)
    if files.prompts is None:
        return _middle(results, files, geometry)
    prompt_file = load_prompt_file(files.prompts)
    if case not in prompt_file.cases:
        raise UserError(f"Prompt file {files.prompts} does not list case '{case}'; simulate the prompts again.")
    if not prompt_file.cases[case]:
        return _middle(results, files, geometry)
    prompt = prompt_file.cases[case][0]
    index_zyx = geometry.points_to_index_zyx(prompt.points[:1], prompt_file.coordinates)
    if check_inside(index_zyx, geometry.size_zyx).size:
        raise UserError(
            f"Prompt file {files.prompts}, case '{case}': a click lies outside of {files.image}; "
            "simulate the prompts again."
        )
    return _Place(_label_of(results, prompt, files), index_zyx[0], len(prompt.points))


def _label_of(results: BenchmarkResults, prompt: Prompt, files: PictureFiles) -> str:
    """The scored label that a prompt asks for; a region counts if it holds the label's value."""
    for name, value in results.labels.items():
        if prompt.label == name or (isinstance(prompt.label, int) and prompt.label in np.atleast_1d(value)):
            return name
    raise UserError(
        f"Prompt file {files.prompts} asks for label {prompt.label!r}, which was not scored; simulate them again."
    )


def _middle(results: BenchmarkResults, files: PictureFiles, geometry: ImageGeometry) -> _Place:
    """The deepest voxel of the largest label of the truth, else of the prediction, else the image's middle."""
    for path in (files.truth, files.prediction):
        array, _ = read_label_map(path)
        masks = {name: np.isin(array, np.atleast_1d(value)) for name, value in results.labels.items()}
        label = max(masks, key=lambda name: int(masks[name].sum()))
        found = crop_to_object(masks[label], label=1)
        if found is not None:
            return _Place(label, deepest_voxel(found, spacing_zyx_mm=geometry.spacing_zyx_mm).astype(float))
    return _Place(next(iter(results.labels)), np.asarray(geometry.size_zyx) // 2 * 1.0)


def _draw(results: BenchmarkResults, files: PictureFiles, place: _Place, *, title: str) -> Figure:
    from nnunetv2_promise.prompts.draw import draw_slices

    image_zyx, geometry = read_volume(files.image)
    masks = {}
    for name, path in (("truth", files.truth), ("prediction", files.prediction)):
        array, grid = read_label_map(path)
        if difference := geometry_difference(geometry, grid):
            raise UserError(
                f"{path} does not lie on the grid of {files.image}: they differ in {difference}; predict again."
            )
        masks[name] = np.isin(array, np.atleast_1d(results.labels[place.label]))
    return draw_slices(image_zyx, geometry, place.index_zyx, masks=masks, title=title, show_click=place.clicks > 0)
