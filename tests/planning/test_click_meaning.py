"""What a click means follows from how many objects the cases hold."""

from __future__ import annotations

from typing import Any

import pytest

from nnunetv2_promise.planning.click_meaning import meaning_of_clicks, share_of_cases_with_several


def objects(**labels: list[list[int]]) -> dict[str, Any]:
    """A fingerprint's objects: for each label the sizes of its components in each case."""
    return {
        "labels": {
            name: {"cases": {f"case_{i}": {"voxels": sizes} for i, sizes in enumerate(cases)}}
            for name, cases in labels.items()
        }
    }


@pytest.mark.parametrize(
    ("cases", "share", "target"),
    [
        ([[50, 40], [30], [], [20]], 1 / 3, "object"),
        ([[50, 3, 2], [30], [20]], 0.0, "label"),
        ([[50]] * 39 + [[50, 9]], 0.025, "label"),
        ([[50]] * 19 + [[50, 9]], 0.05, "object"),
    ],
)
def test_several_objects_in_some_cases_make_the_object_the_target(
    cases: list[list[int]], share: float, target: str
) -> None:
    measured = objects(lesion=cases)
    assert share_of_cases_with_several(measured) == pytest.approx(share)
    chosen, reasons = meaning_of_clicks(measured)
    assert chosen == target
    assert len(reasons) == 1


def test_several_labels_are_explained() -> None:
    _, reasons = meaning_of_clicks(objects(anterior=[[50]], posterior=[[60]]))
    assert reasons[1].startswith("Logits for each of the 2 labels")
