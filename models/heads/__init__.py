"""The classifiers that sit on the embeddings: `HEADS` lists them, each is one module.

`folds/` has the parts of the training images that heads are fitted on, and what they share there.

base: Head, Settings, first_line, score, worthwhile_threads
classes: ClassHead, ClassHeads, share_out
ensemble: ENSEMBLE, Ensemble, MEMBERS, TITLE, average, side_by_side
files: HEAD_FILES, HeadFileError, dump_head, load_head
logistic: LOGISTIC_REGRESSION, make_logistic
svm: SVM
trees: XGBOOST
Within the room: blockwise, boosting, nystroem
"""

from __future__ import annotations

from typing import Final

from models.heads.base import Head
from models.heads.logistic import LOGISTIC_REGRESSION
from models.heads.svm import SVM
from models.heads.trees import XGBOOST

__all__ = ["HEADS"]

HEADS: Final[dict[str, Head]] = {
    head.name: head
    for head in (
        LOGISTIC_REGRESSION,
        SVM,
        XGBOOST,
    )
}
