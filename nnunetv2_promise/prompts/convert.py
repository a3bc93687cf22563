"""Click files of viewers and challenges to one prompt file; the formats are in ``prompts.formats``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import find_images
from nnunetv2_promise.images.geometry import swap_ras_and_lps
from nnunetv2_promise.images.reading import read_geometry
from nnunetv2_promise.prompts.formats.click_list import ClickList, NamedPoint
from nnunetv2_promise.prompts.formats.table import format_of
from nnunetv2_promise.prompts.locate import locate_case
from nnunetv2_promise.prompts.schema import Box, Coordinates, Point, Prompt, PromptFile, save_prompt_file

ObjectOf = Literal["point", "list", "case"]


@dataclass(frozen=True)
class _Source:
    """A click file, read.

    Attributes:
        path: The file.
        case: The case that it belongs to.
        coordinates: What its points mean.
        lists: Its lists; every point's ``positive`` is known.
    """

    path: Path
    case: str
    coordinates: Coordinates
    lists: tuple[ClickList, ...]


def convert_prompts(
    files: Sequence[Path | str],
    output: Path | str,
    *,
    labels: Sequence[str | int],
    images: Path | str | None = None,
    case: str | None = None,
    coordinates: Coordinates | None = None,
    object_of: ObjectOf = "point",
    negative: Sequence[str] = (),
) -> PromptFile:
    """Write a prompt file from click files.

    Args:
        files: Click files. The case is the file's name without ending, or, with ``images``, the longest name of a case
            that it starts with.
        output: Prompt file to write.
        labels: The label of the objects; or one label for each list of a file.
        images: Folder of the images; if given, points must lie inside, and cases without a click are listed with none.
        case: Case of the one file, if its name does not say it.
        coordinates: What points mean, for formats that do not say it.
        object_of: Each point is an object; or the points of each list are clicks on one; or all points of a case are.
        negative: Points whose name, or whose file's name behind the case, starts with one of these are negative.

    Returns:
        What was written; in voxels, or in the world of the files (LPS if they mix LPS and RAS).

    Raises:
        UserError: If a file cannot be read, its case or coordinates are not known, or a point lies outside.
    """
    if case is not None and len(files) != 1:
        raise UserError(f"--case names the case of one file, but {len(files)} are given; name files after their cases.")
    image_paths = None if images is None else find_images(images)
    sources = [_read(Path(file), case, image_paths, coordinates, negative) for file in files]
    common = _common_coordinates(sources)
    cases: dict[str, list[Prompt]] = {} if image_paths is None else {name: [] for name in image_paths}
    for name in dict.fromkeys(source.case for source in sources):
        own = [_in_coordinates(source, common) for source in sources if source.case == name]
        cases[name] = _prompts(own, labels, object_of)
    if image_paths is not None:
        written = PromptFile(Path(output), common, {name: tuple(prompts) for name, prompts in cases.items()})
        for name in {source.case: None for source in sources}:
            locate_case(written, name, read_geometry(image_paths[name]), labels=None)
    return save_prompt_file(output, cases, coordinates=common)


def _read(
    path: Path,
    case: str | None,
    image_paths: Mapping[str, Path] | None,
    coordinates: Coordinates | None,
    negative: Sequence[str],
) -> _Source:
    if not path.is_file():
        raise UserError(f"Click file {path} does not exist; check the path.")
    known = format_of(path)
    stem = path.name[: -len(known.ending)]
    name, rest = _case_of(path, case or stem, image_paths)
    content = known.read(path)
    if content.coordinates is None and coordinates is None:
        raise UserError(f"{path} does not say whether its numbers are voxels or mm; say it with --coordinates.")
    if None not in (content.coordinates, coordinates) and content.coordinates != coordinates:
        raise UserError(f"{path} is in {content.coordinates} by its format; leave out --coordinates {coordinates}.")

    def signed(point: NamedPoint) -> NamedPoint:
        named_negative = any(text.startswith(word) for word in negative for text in (point.name, rest))
        return point if point.positive is not None else replace(point, positive=not named_negative)

    lists = tuple(replace(group, points=tuple(map(signed, group.points))) for group in content.lists)
    stated = content.coordinates or coordinates or "voxel"
    return _Source(path, name, stated, lists)


def _case_of(path: Path, stem: str, image_paths: Mapping[str, Path] | None) -> tuple[str, str]:
    """The case of a file name, and what follows it there."""
    if image_paths is None:
        return stem, ""
    fitting = [name for name in image_paths if stem == name or (stem.startswith(name) and stem[len(name)] in "_-. ")]
    if not fitting:
        raise UserError(f"{path} is named after no case of the images; rename it to CASE{path.suffix} or name --case.")
    name = max(fitting, key=len)
    return name, stem[len(name) :].lstrip("_-. ")


def _common_coordinates(sources: Iterable[_Source]) -> Coordinates:
    found = {source.coordinates: source.path for source in sources}
    if len(found) > 1 and "voxel" in found:
        world = next(path for coordinates, path in found.items() if coordinates != "voxel")
        raise UserError(f"{found['voxel']} is in voxels and {world} in mm; convert them to prompt files of their own.")
    return next(iter(found)) if len(found) == 1 else "LPS"


def _in_coordinates(source: _Source, target: Coordinates) -> _Source:
    """The same clicks in another world."""
    if source.coordinates == target:
        return source

    def swapped(point: Point) -> Point:
        x, y, z = swap_ras_and_lps([point])[0].tolist()
        return x, y, z

    def moved(group: ClickList) -> ClickList:
        box: Box | None = None if group.box is None else (*swapped(group.box[:3]), *swapped(group.box[3:]))
        return ClickList(tuple(replace(point, point=swapped(point.point)) for point in group.points), box)

    return replace(source, coordinates=target, lists=tuple(map(moved, source.lists)))


def _prompts(sources: Sequence[_Source], labels: Sequence[str | int], object_of: ObjectOf) -> list[Prompt]:
    """The objects of one case."""
    prompts: list[Prompt] = []
    for source in sources:
        if len(labels) not in (1, len(source.lists)):
            raise UserError(
                f"{source.path} has {len(source.lists)} list(s) of clicks, but --label names {len(labels)}; name one "
                "label, or one for each list."
            )
        for number, group in enumerate(source.lists):
            label = labels[number] if len(labels) > 1 else labels[0]
            prompts += _of_list(source, label, group, object_of)
    if object_of == "case" and prompts:
        return [_joined(sources, prompts)]
    return prompts


def _of_list(source: _Source, label: str | int, group: ClickList, object_of: ObjectOf) -> list[Prompt]:
    if object_of != "point":
        prompt = Prompt(label, box=group.box)
        for point in group.points:
            prompt = prompt.with_click(point.point, positive=bool(point.positive))
        if object_of == "list" and prompt.negative_points and not prompt.points and not prompt.box:
            raise UserError(f"{source.path} has negative points only; join them to their object with --object case.")
        return [prompt] if prompt.clicks or prompt.box else []
    if group.box is not None or not all(point.positive for point in group.points):
        raise UserError(
            f"{source.path} has negative points or a box, which belong to an object with other points; join them with "
            "--object list or --object case."
        )
    return [Prompt(label, (point.point,)) for point in group.points]


def _joined(sources: Sequence[_Source], prompts: Sequence[Prompt]) -> Prompt:
    """All prompts of a case as one object."""
    boxes = [prompt.box for prompt in prompts if prompt.box]
    if len({prompt.label for prompt in prompts}) > 1 or len(boxes) > 1:
        raise UserError(f"{sources[0].path} has several labels or boxes; --object case needs one, use --object list.")
    joined = Prompt(prompts[0].label, box=boxes[0] if boxes else None)
    for click in (click for prompt in prompts for click in prompt.clicks):
        joined = joined.with_click(click.point, positive=click.positive)
    return joined
