from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack

from nnunetv2_promise.inference.window_cutting import WindowCutter


def test_models_that_keep_voxels_cut_windows_in_the_scans_own_voxels() -> None:
    """The plans' spacing is the median of other scans; this scan's differs, and nothing is resampled."""
    data = np.arange(1, 1 + 20 * 24 * 28, dtype=np.float32).reshape(1, 20, 24, 28)
    configuration = SimpleNamespace(
        configuration={"resampling_fn_data": "no_resampling_hack"},
        spacing=[4.0, 2.0, 0.5],
        normalization_schemes=["NoNormalization"],
        use_mask_for_norm=[False],
        resampling_fn_data=no_resampling_hack,
    )
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], foreground_intensity_properties_per_channel={"0": {}})
    cutter = WindowCutter(data, {"spacing": [1.0, 1.0, 1.0]}, plans, configuration)
    window, image = cutter.cut(np.array([[9.0, 11.0, 13.0]]), (8, 8, 8), label_head=1)
    assert window.points == ((4, 4, 4),)
    assert image.shape == (1, 8, 8, 8)
    np.testing.assert_array_equal(image[0], data[0, 5:13, 7:15, 9:17])
