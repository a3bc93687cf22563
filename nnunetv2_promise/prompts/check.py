"""Checking a prompt file against its images, and drawing where the clicks land."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path
from nnunetv2_promise.images.folders import find_channels
from nnunetv2_promise.images.labels import Labels, find_dataset_json, read_labels
from nnunetv2_promise.images.reading import (
    check_stored_voxels,
    read_channels_geometry,
    read_geometry,
    read_volume,
)
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case, similar_case
from nnunetv2_promise.prompts.schema import PromptFile, load_prompt_file


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        cases: Number of cases that are listed in the prompt file.
        objects: Number of objects in them.
        points: Number of clicks in them.
        empty_cases: Cases that are listed without an object; their masks will be empty.
        labels_known: Whether labels were checked, since a ``dataset.json`` was found.
        problems: One sentence for each fault; prediction would refuse the file.
        pictures: What was drawn.
    """

    cases: int
    objects: int
    points: int
    empty_cases: list[str]
    labels_known: bool
    problems: list[str] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)


def check_prompts(
    prompts: Path | str,
    images: Path | str,
    *,
    output: Path | str | None = None,
    dataset_json: Path | str | None = None,
) -> CheckReport:
    """Check every case of a prompt file as prediction does, and draw every click of the cases without a fault.

    Each channel of each case is read to its end, so that damage is found here and not hours into a prediction.

    Args:
        prompts: Prompt file.
        images: Folder of its images.
        output: Folder for one picture (PNG) for each click; None draws nothing.
        dataset_json: Where the labels are named; by default ``dataset.json`` in or above ``images``. Without one,
            labels are not checked.

    Raises:
        UserError: If the prompt file breaks the schema, or ``images`` or ``dataset_json`` cannot be read.
    """
    prompt_file = load_prompt_file(prompts)
    channels = find_channels(images, cases=prompt_file.cases)
    labels_path = find_dataset_json(images, named=dataset_json)
    labels = None if labels_path is None else read_labels(labels_path)
    objects = [prompt for case in prompt_file.cases.values() for prompt in case]
    report = CheckReport(
        cases=len(prompt_file.cases),
        objects=len(objects),
        points=sum(len(prompt.clicks) for prompt in objects),
        empty_cases=[case for case, items in prompt_file.cases.items() if not items],
        labels_known=labels is not None,
    )
    for case in tqdm(sorted({*prompt_file.cases, *channels}), desc="Checking", unit="case", disable=None):
        if case not in channels:
            hint = similar_case(case, channels)
            report.problems.append(
                f"Prompt file {prompt_file.path} lists case {case!r}, but {images} has no image of that name{hint}."
            )
            continue
        located, problems = _check_case(prompt_file, case, channels[case], labels)
        report.problems += problems
        if output is not None and located and not problems:
            report.pictures += draw_case(prompt_file, case, channels[case][0], located, Path(output))
    return report


def _check_case(
    prompt_file: PromptFile, case: str, files: Sequence[Path], labels: Labels | None
) -> tuple[list[LocatedPrompt], list[str]]:
    """The case's prompts where they fit, and every fault: of its channels' grids and voxels, and of its prompts."""
    problems = []
    for file in files:
        try:
            read_geometry(file)  # first, as prediction does: it has the clearer words for a header that is wrong
            check_stored_voxels(file)
        except UserError as error:
            problems.append(str(error))
    try:
        geometry = read_channels_geometry(files)
    except UserError as error:
        return [], problems or [str(error)]
    try:
        return locate_case(prompt_file, case, geometry, labels=labels), problems
    except UserError as error:
        return [], [*problems, str(error)]


def draw_case(
    prompt_file: PromptFile, case: str, image: Path, located: list[LocatedPrompt], output: Path
) -> Iterator[Path]:
    """Draw every click of a case as ``CASE_object1_point1.png``.

    Args:
        prompt_file: Gives labels and coordinates for the headings.
        case: Case identifier.
        image: Its image.
        located: The case's clicks, from ``locate_case``.
        output: Folder of the pictures; made if missing.

    Yields:
        The files, once written.
    """
    from nnunetv2_promise.prompts.draw import draw_slices

    array_zyx, geometry = read_volume(image)
    for number, (prompt, place) in enumerate(zip(prompt_file.cases[case], located, strict=True), start=1):
        for row, (click, index_zyx) in enumerate(zip(prompt.clicks, place.clicks_zyx()[0], strict=True), start=1):
            given = ", ".join(f"{value:.6g}" for value in click.point)
            sign = "" if click.positive else ", negative"
            title = f"{case}, object {number}, label {prompt.label}{sign}: ({given}) {prompt_file.coordinates}"
            target = output / f"{case}_object{number}_point{row}.png"
            with atomic_path(target) as temporary:
                draw_slices(array_zyx, geometry, index_zyx, title=title).savefig(temporary, dpi=110)
            yield target
