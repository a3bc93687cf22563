"""Checking a prompt file against its images, and drawing where the clicks land."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path
from nnunetv2_promise.images.folders import find_images
from nnunetv2_promise.images.labels import Labels, find_dataset_json, read_labels
from nnunetv2_promise.images.reading import read_geometry, read_volume
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case
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
    """Check every case of a prompt file, and draw every click of the cases without a fault.

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
    image_paths = find_images(images)
    labels_path = find_dataset_json(images, named=dataset_json)
    labels = None if labels_path is None else read_labels(labels_path)
    objects = [prompt for case in prompt_file.cases.values() for prompt in case]
    report = CheckReport(
        cases=len(prompt_file.cases),
        objects=len(objects),
        points=sum(len(prompt.points) for prompt in objects),
        empty_cases=[case for case, items in prompt_file.cases.items() if not items],
        labels_known=labels is not None,
    )
    for case in tqdm(sorted({*prompt_file.cases, *image_paths}), desc="Checking", unit="case", disable=None):
        try:
            located = _check_case(prompt_file, case, image_paths.get(case), Path(images), labels)
        except UserError as error:
            report.problems.append(str(error))
            continue
        if output is not None and located:
            report.pictures += draw_case(prompt_file, case, image_paths[case], located, Path(output))
    return report


def _check_case(
    prompt_file: PromptFile, case: str, image: Path | None, folder: Path, labels: Labels | None
) -> list[LocatedPrompt]:
    if image is None:
        raise UserError(f"Prompt file {prompt_file.path} lists case {case!r}, but {folder} has no image of that name.")
    return locate_case(prompt_file, case, read_geometry(image), labels=labels)


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
        for row, point in enumerate(prompt.points):
            given = ", ".join(f"{value:.6g}" for value in point)
            title = f"{case}, object {number}, label {prompt.label}: ({given}) {prompt_file.coordinates}"
            target = output / f"{case}_object{number}_point{row + 1}.png"
            with atomic_path(target) as temporary:
                draw_slices(array_zyx, geometry, place.index_zyx[row], title=title).savefig(temporary, dpi=110)
            yield target
