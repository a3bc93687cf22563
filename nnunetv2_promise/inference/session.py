"""Clicking on an image from Python: one object at a time, corrected until its mask is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry, check_inside, nearest_voxel
from nnunetv2_promise.inference.correctable_mask import CorrectableMask
from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT
from nnunetv2_promise.inference.image_grids import PreprocessedGrid
from nnunetv2_promise.inference.model_folder import open_model_folder
from nnunetv2_promise.inference.patch_memory import PatchMemory
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.prompts.schema import foreground_labels, resolve_label
from nnunetv2_promise.prompts.scribbles import scribble_clicks

_NO_IMAGE = "No image is set; call set_image first."


class InteractiveSession:
    """Segments objects of an image click by click.

    Points are (x, y, z) voxels of the image, arrays are (z, y, x). A patch is encoded when a click first needs it, and
    reused for every further click in it, on this object or the next.

    Args:
        model: A model folder, as training writes it.
        configuration: A configuration of its plans.
        fold: The fold to use.
        checkpoint: File name in the fold's folder.
        device: ``"cpu"``, ``"cuda"``, ...; a GPU where there is one, if None.

    Raises:
        UserError: If the folder is not a complete model that takes prompts.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        configuration: str = "3d_fullres",
        fold: int | str = 0,
        checkpoint: str = "checkpoint_final.pth",
        device: str | None = None,
    ) -> None:
        folder = open_model_folder(Path(model), configuration=configuration, folds=[str(fold)], checkpoint=checkpoint)
        folder.check_checkpoints()
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = PromptedModel.load(folder, torch.device(chosen))
        self._labels = folder.dataset_json["labels"]
        self._geometry: ImageGeometry | None = None
        self._patches: PatchMemory | None = None
        self._grid: PreprocessedGrid | None = None
        self._mask: CorrectableMask | None = None

    def set_image(self, image: NDArray, spacing_xyz_mm: Sequence[float], *, label: str | int | None = None) -> None:
        """Preprocess an image and start its first object.

        Args:
            image: (z, y, x), or (channels, z, y, x).
            spacing_xyz_mm: Distance between voxels along x, y, z.
            label: Name or number of the first object's label; needed where the model knows several.

        Raises:
            UserError: If the image has other channels than the model, holds NaN, or the label is unknown.
        """
        data = np.asarray(image, np.float32)
        data = data[None] if data.ndim == 3 else data
        channels = len(self._model.dataset_json["channel_names"])
        if data.ndim != 4 or len(data) != channels:
            raise UserError(f"image has shape {np.shape(image)}; the model needs (z, y, x) with {channels} channel(s).")
        if not np.isfinite(data).all():
            raise UserError("image holds NaN or infinite values; clean it before segmenting.")
        x, y, z = (float(edge) for edge in spacing_xyz_mm)
        if not min(x, y, z) > 0:
            raise UserError(f"spacing_xyz_mm is {tuple(spacing_xyz_mm)}; it needs three positive numbers.")
        depth, height, width = data.shape[1:]
        plans = self._model.plans
        preprocessed, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            data, None, {"spacing": (z, y, x)}, plans, self._model.configuration, self._model.dataset_json
        )
        self._geometry = ImageGeometry(
            (width, height, depth), (x, y, z), (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        )
        self._grid = PreprocessedGrid(
            properties, preprocessed.shape[1:], plans.transpose_forward, plans.transpose_backward
        )
        self._patches = PatchMemory(self._model.network, preprocessed)
        self.reset(label=label)

    def reset(self, *, label: str | int | None = None, previous_mask: NDArray | None = None) -> None:
        """Start a new object in the same image; what is encoded stays.

        Args:
            label: Name or number of its label; needed where the model knows several.
            previous_mask: (z, y, x), a mask to correct, or None.

        Raises:
            UserError: If no image is set, the label is unknown or missing, the mask is on another grid, or the model
                corrects no mask.
        """
        patches, grid, geometry = self._ready()
        previous = None
        if previous_mask is not None:
            if np.shape(previous_mask) != geometry.size_zyx:
                raise UserError(
                    f"previous_mask has shape {np.shape(previous_mask)} and the image {geometry.size_zyx}; "
                    "they must share one grid."
                )
            previous = grid.mask_to_preprocessed(np.asarray(previous_mask) != 0)
        self._mask = CorrectableMask(
            patches,
            label_head=self._label_head(label),
            window_size=self._model.window_size,
            previous_mask=previous,
            one_component=self._model.one_component,
            inside=self._model.inside,
        )

    def holds(self, point_xyz: Sequence[float]) -> bool:
        """Whether a voxel (x, y, z) lies in the image's content, where there is something to click on.

        Raises:
            UserError: If no image is set.
        """
        _, grid, geometry = self._ready()
        return grid.holds(nearest_voxel(geometry.points_to_index_zyx([point_xyz], "voxel"), geometry.size_zyx))

    def add_point(self, point_xyz: Sequence[float], *, positive: bool = True) -> NDArray[np.bool_]:
        """Click.

        Args:
            point_xyz: Voxel (x, y, z) of the image, may be fractional.
            positive: Whether the object is there; False takes what is there out of the mask.

        Returns:
            (z, y, x), the new mask.

        Raises:
            UserError: If the click lies outside of the image, or the model takes no negative one.
        """
        return self._click([point_xyz], positive=positive)

    def add_scribble(self, points_xyz: Sequence[Sequence[float]], *, positive: bool = True) -> NDArray[np.bool_]:
        """Draw a line; up to ten places on it, evenly spaced, count as clicks made at once.

        Args:
            points_xyz: (n, 3), voxels (x, y, z) that the line runs through.
            positive: As in ``add_point``.

        Returns:
            (z, y, x), the new mask.

        Raises:
            UserError: As ``add_point``, or if there is no point.
        """
        if not len(points_xyz):
            raise UserError("The scribble has no point; draw at least one.")
        return self._click(scribble_clicks(points_xyz).tolist(), positive=positive)

    def add_box(self, corners_xyz: Sequence[float]) -> NDArray[np.bool_]:
        """Refused: ProMISe is a model of clicks.

        Raises:
            UserError: Always.
        """
        raise UserError("This model takes clicks and no boxes; click on the object instead.")

    def undo(self) -> NDArray[np.bool_]:
        """Take the newest click or scribble back.

        Returns:
            (z, y, x), the mask before it.

        Raises:
            UserError: If there is none.
        """
        if not self._object().undo():
            raise UserError("There is no click to take back.")
        return self.mask

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(z, y, x), the mask of the current object on the image's grid."""
        _, grid, _ = self._ready()
        return grid.to_image(self._object().logits, BACKGROUND_LOGIT)

    @property
    def expected_dice(self) -> float:
        """How good the model expects the mask to be, from 0 to 1; NaN where it expects nothing."""
        return self._object().expected_dice

    def _click(self, points_xyz: Sequence[Sequence[float]], *, positive: bool) -> NDArray[np.bool_]:
        _, grid, geometry = self._ready()
        index = geometry.points_to_index_zyx(points_xyz, "voxel")
        outside = check_inside(index, geometry.size_zyx)
        if outside.size:
            point = tuple(points_xyz[int(outside[0])])
            raise UserError(f"The click {point} lies outside of the image of {geometry.size_xyz} voxels (x, y, z).")
        voxels = grid.to_preprocessed(nearest_voxel(index, geometry.size_zyx))
        self._object().click(voxels.tolist(), positive=positive)
        return self.mask

    def _label_head(self, label: str | int | None) -> int:
        foreground = list(self._model.plans.get_label_manager(self._model.dataset_json).foreground_labels)
        if label is None and len(foreground) == 1:
            return 1
        if label is None:
            names = ", ".join(map(repr, foreground_labels(self._labels)))
            raise UserError(f"The model knows several labels; name the object's with label=, one of {names}.")
        return 1 + foreground.index(resolve_label(label, self._labels, where="label"))

    def _ready(self) -> tuple[PatchMemory, PreprocessedGrid, ImageGeometry]:
        if self._patches is None or self._grid is None or self._geometry is None:
            raise UserError(_NO_IMAGE)
        return self._patches, self._grid, self._geometry

    def _object(self) -> CorrectableMask:
        if self._mask is None:
            raise UserError(_NO_IMAGE)
        return self._mask
