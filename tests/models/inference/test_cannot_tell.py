"""Where a number would mislead, the verdict says that it can't tell, and why."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.embedding.extractor import load_extractor
from features.images.decoding import load_pixels
from models.bundle.loading import Bundle, load_bundle
from models.decisions.thresholds import Zone
from models.inference.classifier import Classifier
from models.inference.evidence import Evidence
from models.inference.verdict import Verdict
from models.inference.wording import known_as
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.cached import cluster_features, spec_of
from tests.pictures import image_bytes

COUNT = 160


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trained on real embeddings of small pictures, so that others are like them."""
    import hashlib

    data = [image_bytes(seed) for seed in range(COUNT)]
    features = cluster_features(COUNT, spec=spec_of(None), splits=("train",))
    pixels = np.stack([load_pixels(one, 75) for one in data])
    embeddings = load_extractor("inception_v3", "untrained", input_size=75).embed(pixels)
    items = replace(
        features.items, sha256=np.array([hashlib.sha256(one).hexdigest() for one in data])
    )
    features = replace(features, embeddings=embeddings, items=items)
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    return publish_bundle(tmp_path_factory.mktemp("told") / "bundle", comparison, features)


@pytest.fixture(scope="module")
def classifier(trained: Bundle) -> Classifier:
    return Classifier.load(trained.folder)


def judged(
    classifier: Classifier, images: Sequence[bytes], *, zone: Zone | None = None, **more: object
) -> list[Verdict]:
    bundle = classifier.bundle
    decision = replace(bundle.decision, zone=zone)
    other = classifier.with_bundle(replace(bundle, decision=decision))
    found = other.classify([("one", image) for image in images], **more)  # type: ignore[arg-type]
    assert all(isinstance(one, Verdict) for one in found)
    return found  # type: ignore[return-value]


def test_inside_the_zone_it_cannot_tell_and_says_what_the_threshold_says(
    classifier: Classifier,
) -> None:
    image = [image_bytes(1)]
    before = judged(classifier, image)[0]
    within = judged(classifier, image, zone=Zone(0.0, 1.0, 0.1))[0]
    assert before.decision != "cannot tell"
    assert before.reasons == ()
    assert within.decision == "cannot tell"
    assert (within.flagged, within.label) == (before.flagged, before.label)
    assert [reason.kind for reason in within.reasons] == ["in_zone"]
    edge = Zone(before.probability, before.probability, 0.1)
    assert judged(classifier, image, zone=edge)[0].decision == "cannot tell"


def test_another_kind_of_picture_is_unlike_the_training_images(classifier: Classifier) -> None:
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "red").save(file, "PNG")
    like, unlike = judged(classifier, [image_bytes(1000), file.getvalue()])
    assert like.decision != "cannot tell"
    assert unlike.decision == "cannot tell"
    assert unlike.reasons[0].kind == "unlike"
    assert not like.reasons
    assert unlike.as_dict()["reasons"] == [reason.text for reason in unlike.reasons]


def test_a_poor_picture_cannot_be_judged(classifier: Classifier) -> None:
    tiny = judged(classifier, [image_bytes(3, (20, 90))])[0]
    assert tiny.decision == "cannot tell"
    assert "small" in [reason.kind for reason in tiny.reasons]


def test_a_training_image_is_known_and_its_nearest_case(classifier: Classifier) -> None:
    known, new = judged(classifier, [image_bytes(7), image_bytes(1001)], similar=3)
    assert known.known is not None
    assert known.known == known_as(known.similar[0].label)
    assert known.as_dict()["known"] == known.known.text
    assert known.similar[0].distance == pytest.approx(0, abs=5e-3)
    # To the fifth nearest: of a training image the first is itself.
    assert known.distance is not None
    assert 0 < known.distance < 1
    assert new.as_dict()["distance"] == new.distance
    assert new.known is None
    assert len(new.similar) == 3
    assert "known" not in new.as_dict()
    assert [each["label"] for each in new.as_dict()["similar"]] == [
        each.label for each in new.similar
    ]


def test_evidence_is_given_when_asked_for(classifier: Classifier) -> None:
    with_it = judged(classifier, [image_bytes(9)], evidence=True)[0]
    assert isinstance(with_it.evidence, Evidence)
    rows = classifier.embed([classifier.read(image_bytes(9))])
    assert with_it.evidence.score == pytest.approx(classifier.bundle.score(rows)[0], abs=1e-3)
    assert judged(classifier, [image_bytes(9)])[0].evidence is None


def test_a_bundle_without_gallery_judges_all_the_same(
    classifier: Classifier, trained: Bundle
) -> None:
    bare = classifier.with_bundle(replace(load_bundle(Path(trained.folder)), gallery=None))
    found = judged(bare, [image_bytes(7)], similar=3)[0]
    assert (found.known, found.similar) == (None, ())
    assert found.decision != "cannot tell"
