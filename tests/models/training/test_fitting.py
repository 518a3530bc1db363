"""What heads have prepared for each other is kept as long as somebody needs it."""

from __future__ import annotations

import numpy as np
import pytest

from models.heads import HEADS
from models.training.fitting import fit_head
from models.training.options import Options, make_study
from models.training.selection import select
from tests.models.data.clusters import clusters, features_of


@pytest.mark.parametrize("classes", [2, 3])
def test_bins_are_dropped_unless_other_classes_need_them(classes: int) -> None:
    X, y = clusters(120)
    others = np.where(np.arange(120) % 2, "nevus", "other" if classes == 3 else "nevus")
    features = features_of(X, np.where(y == 1, "melanoma", others))
    chosen = select(features, positive="melanoma", folds=3)
    study, _ = make_study(chosen.parts, Options(folds=3, jobs=1, reuse=False), lambda _: None)
    assert len(study.labels) == (1 if classes == 2 else 3)
    fit_head(HEADS["xgboost"], study)
    kept = [bool(fold.common.kept) for fold in (*study.folds, study.everything)]
    assert kept == [classes == 3] * 4
