"""What surrounds a drawn lesion: each nuisance does what its name says, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from features.datasets.drawn_lesion import Lesion, draw_lesion
from features.datasets.drawn_skin import Scene

PLAIN = Scene(tone=0.1, mottling=0.0, blur=0.0)


class TestScene:
    lesion = Lesion(seed=11, scene=PLAIN)

    def drawn(self, **changes: Any) -> npt.NDArray[np.float64]:
        return draw_lesion(replace(self.lesion, scene=replace(PLAIN, **changes))).astype(float)

    def test_hairs_are_thin_and_dark_and_leave_the_rest_alone(self) -> None:
        change = (self.drawn(hairs=12) - self.drawn()).mean(axis=2)
        assert 0.005 < (change < -25).mean() < 0.25
        assert (change == 0).mean() > 0.7
        # A stroke that is eroded by a few pixels is gone.
        assert ndimage.binary_erosion(change < -25, iterations=3).mean() < 0.01

    def test_vignette_darkens_corners_only(self) -> None:
        drawn = self.drawn(vignette=0.5)
        assert drawn[:8, :8].mean() < 30
        assert drawn[-8:, -8:].mean() < 30
        assert np.array_equal(drawn[110:146, 110:146], self.drawn()[110:146, 110:146])

    def test_lighting_falls_across_the_image(self) -> None:
        ratio = ndimage.gaussian_filter(self.drawn(lighting=1.0) / self.drawn().clip(1), (9, 9, 0))
        corners = ratio[[20, 20, -20, -20], [20, -20, 20, -20]].mean(axis=1)
        assert corners.max() - corners.min() > 0.12

    def test_tone_darkens_the_skin(self) -> None:
        light, dark = (self.drawn(tone=tone)[:30].mean() for tone in (0.0, 1.0))
        assert dark < light - 80

    def test_tint_moves_red_against_blue(self) -> None:
        salmon, bluish = (self.drawn(tint=tint)[:30].mean(axis=(0, 1)) for tint in (1.0, -1.0))
        assert salmon[0] - salmon[2] > bluish[0] - bluish[2] + 30

    def test_blur_takes_fine_detail(self) -> None:
        def detail(pixels: npt.NDArray[np.float64]) -> float:
            return float(np.abs(np.diff(pixels[90:160, 90:160].mean(axis=2))).mean())

        assert detail(self.drawn(blur=2.0)) < 0.6 * detail(self.drawn())

    def test_ruler_and_bubbles_change_little_and_visibly(self) -> None:
        for changes, sign in (({"ruler": True}, -1), ({"bubbles": 6}, 1)):
            change = sign * (self.drawn(**changes) - self.drawn()).mean(axis=2)
            assert 0.0002 < (change > 15).mean() < 0.05

    def test_mottling_makes_skin_uneven(self) -> None:
        def unevenness(pixels: npt.NDArray[np.float64]) -> float:
            return float(ndimage.gaussian_filter(pixels.mean(axis=2), 4)[:60].std())

        assert unevenness(self.drawn(mottling=1.0)) > 2 * unevenness(self.drawn())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hairs": -1}, "got hairs -1, expected 0 to 200"),
        ({"tint": -1.5}, "got tint -1.5, expected -1 to 1"),
        ({"blur": float("nan")}, "got blur nan"),
    ],
)
def test_impossible_scenes_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Scene(**changes)
