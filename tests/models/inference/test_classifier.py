"""From image files to verdicts, with a real network."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.embedding.extractor import load_extractor
from features.embedding.joined import JoinedExtractor
from features.errors import WeightsError
from features.images.decoding import load_pixels
from models.bundle.loading import load_bundle
from models.bundle.manifest import BundleRefused, seal
from models.bundle.network import ReadyNetwork, ready_network
from models.inference.classifier import Classifier
from models.inference.verdict import Rejected, Verdict
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.conftest import ROOT
from tests.models.data.cached import cluster_features, spec_of
from tests.pictures import image_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = cluster_features(spec=spec_of(None))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    folder = tmp_path_factory.mktemp("served") / "bundle"
    publish_bundle(folder, comparison, features)
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    return Classifier.load(folder)


def verdict(result: Verdict | Rejected) -> Verdict:
    assert isinstance(result, Verdict)
    return result


def test_a_verdict_is_what_the_head_says_of_the_embedding(classifier: Classifier) -> None:
    data = image_bytes(1)
    found = verdict(classifier.classify([("one.jpg", data)])[0])
    extractor = JoinedExtractor([load_extractor("inception_v3", "untrained", input_size=75)])
    embedding = extractor.embed(load_pixels(data, 75)[None])
    expected = float(classifier.bundle.probability(embedding)[0])
    assert found.probability == pytest.approx(expected, abs=1e-5)
    assert found.threshold == classifier.bundle.decision.threshold
    assert found.filename == "one.jpg"


def test_the_decision_follows_the_threshold(folder: Path, tmp_path: Path) -> None:
    images = [("a", image_bytes(2)), ("b", image_bytes(3))]
    for threshold, decision, label in (
        (0.0, "suspicious", "melanoma"),
        (1.0, "not suspicious", "benign"),
    ):
        changed = tmp_path / decision
        changed.mkdir()
        for path in folder.iterdir():
            (changed / path.name).write_bytes(path.read_bytes())
        values = json.loads((changed / "bundle.json").read_text())
        del values["sealed"]
        (changed / "bundle.json").write_bytes(
            seal({**values, "threshold": threshold, "zone": None})
        )
        found = [verdict(result) for result in Classifier.load(changed).classify(images)]
        assert [(one.decision, one.label) for one in found] == [(decision, label)] * 2


def test_a_probability_at_the_threshold_is_suspicious(folder: Path) -> None:
    extractor = JoinedExtractor([load_extractor("inception_v3", "untrained", input_size=75)])
    image = [("a", image_bytes(4))]
    bundle = load_bundle(folder)
    probability = verdict(Classifier(bundle, extractor).classify(image)[0]).probability
    for threshold, decision in (
        (probability, "suspicious"),
        (math.nextafter(probability, 1), "not suspicious"),
    ):
        classifier = Classifier(
            replace(bundle, decision=replace(bundle.decision, threshold=threshold)), extractor
        )
        assert verdict(classifier.classify(image)[0]).decision == decision


def test_one_bad_image_does_not_spoil_the_others(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(image_bytes(6, form="PNG"))
    images: list[tuple[str, bytes | Path]] = [
        ("empty", b""),
        ("good", image_bytes(5)),
        ("text", b"no image at all"),
        ("cut", image_bytes(5)[:200]),
        ("file", tmp_path / "file.png"),
        ("gone", tmp_path / "gone.png"),
        ("good", image_bytes(5)),
    ]
    found = classifier.classify(images)
    assert [result.filename for result in found] == [name for name, _ in images]
    kinds = [result.code if isinstance(result, Rejected) else "" for result in found]
    assert kinds == ["empty", "", "not_an_image", "truncated", "", "unreadable", ""]
    assert verdict(found[1]).probability == pytest.approx(verdict(found[-1]).probability, abs=1e-6)
    assert verdict(found[1]).probability != pytest.approx(verdict(found[4]).probability, abs=1e-6)
    assert found[0].as_dict() == {
        "filename": "empty",
        "error": {"code": "empty", "message": found[0].message},  # type: ignore[union-attr]
    }


def test_only_bad_images_and_none_at_all(classifier: Classifier) -> None:
    assert classifier.classify([]) == []
    assert [type(result) for result in classifier.classify([("a", b"x"), ("b", b"y")])] == [
        Rejected,
        Rejected,
    ]


def test_many_images_come_back_in_their_order(classifier: Classifier) -> None:
    images = [(str(seed), image_bytes(seed)) for seed in range(37)]
    together = [verdict(result) for result in classifier.classify(images)]
    alone = [verdict(classifier.classify([image])[0]) for image in images[::6]]
    assert [one.filename for one in together] == [name for name, _ in images]
    np.testing.assert_allclose(
        [one.probability for one in together[::6]], [one.probability for one in alone], atol=1e-5
    )
    assert len({round(one.probability, 6) for one in together}) > 30


def test_a_verdict_with_evidence_is_the_same(classifier: Classifier) -> None:
    images = [("one.jpg", image_bytes(1)), ("bad.jpg", b"none"), ("two.jpg", image_bytes(2))]
    plain, explained = (classifier.classify(images, evidence=asked) for asked in (False, True))
    for without, found in zip(plain, explained, strict=True):
        evidence = getattr(found, "evidence", None)
        assert (evidence is None) == isinstance(found, Rejected)
        assert (replace(found, evidence=None) if evidence else found) == without
    row = classifier.see(classifier.look_at(images[2][1])).row[np.newaxis]
    assert np.array_equal(row, classifier.embed([classifier.read(images[2][1])]))
    told = verdict(explained[2]).evidence
    assert told is not None
    assert told.score == pytest.approx(classifier.bundle.score(row)[0], abs=1e-6)


def test_threads_may_share_it(classifier: Classifier) -> None:
    images = [(str(seed), image_bytes(seed)) for seed in range(24)]
    expected = [verdict(classifier.classify([image])[0]).probability for image in images]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: classifier.classify([image])[0], images))
    np.testing.assert_allclose(
        [verdict(result).probability for result in found], expected, atol=1e-5
    )


def test_marks_stand_beside_every_verdict(classifier: Classifier) -> None:
    found = verdict(classifier.classify([("a", image_bytes(8))])[0])
    assert [warning.kind for warning in found.warnings] == ["untrained", "synthetic"]
    assert found.as_dict()["warnings"] == [warning.text for warning in found.warnings]
    assert list(found.as_dict()) == [
        "filename", "label", "probability", "threshold", "decision", "flagged", "reasons",
        "warnings", "distance",
    ]  # fmt: skip


def test_another_extractor_is_refused(folder: Path) -> None:
    other = JoinedExtractor([load_extractor("inception_v3", "untrained", input_size=96)])
    with pytest.raises(BundleRefused, match=r"needs embeddings of .* \(input size differ"):
        Classifier(load_bundle(folder), other)


def test_a_bundle_that_is_replaced_while_it_is_read_is_refused(folder: Path) -> None:
    other: Future[ReadyNetwork] = Future()
    ready = ready_network(folder)
    other.set_result(replace(ready, identity="0" * 64))
    with pytest.raises(BundleRefused, match="was replaced while it was being read"):
        Classifier.load(folder, network=other)
    same: Future[ReadyNetwork] = Future()
    same.set_result(ready)
    assert Classifier.load(folder, network=same).bundle.identity == ready.identity


def test_the_network_is_made_ready_without_what_heads_need() -> None:
    script = (
        "import sys, models.bundle.network\n"
        "assert not {'sklearn', 'xgboost', 'skops', 'keras'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_network_that_is_not_known_is_refused(tmp_path: Path) -> None:
    features = cluster_features(spec=spec_of(network="inception_v9"))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    publish_bundle(tmp_path / "bundle", comparison, features)
    with pytest.raises(BundleRefused, match="inception_v9"):
        Classifier.load(tmp_path / "bundle")


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "some.weights.h5"
    weights.write_bytes(b"no weights")
    spec = spec_of(
        None, weights="pretrained", weights_sha256=hashlib.sha256(b"no weights").hexdigest()
    )
    features = cluster_features(spec=spec, weights_path=str(weights))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    with pytest.raises(WeightsError, match="not a Keras weights file"):
        publish_bundle(tmp_path / "bundle", comparison, features)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_bundle_is_served_without_the_weights_and_without_keras(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from features.networks.keras import build_base
    from features.networks.registry import NETWORKS
    from features.networks.untrained import set_untrained_weights

    origin = NETWORKS["inception_v3"].origin
    base = build_base(origin, 75)
    set_untrained_weights(base, origin)
    weights = tmp_path / "own.weights.h5"
    base.save_weights(weights)
    spec = load_extractor("inception_v3", weights, input_size=75, precision="fp32").spec
    features = cluster_features(spec=spec, weights_path=str(weights))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    bundle = publish_bundle(tmp_path / "bundle", comparison, features)
    assert bundle.network_paths == (tmp_path / "bundle" / "network.xml",)
    (tmp_path / "image.jpg").write_bytes(image_bytes(1))
    ways = [Classifier.load(bundle.folder, weights).classify([("", image_bytes(1))])[0]]
    weights.unlink()
    script = (
        "import json, sys\n"
        "from models.inference.classifier import Classifier\n"
        "found = Classifier.load(sys.argv[1]).classify([('', open(sys.argv[2], 'rb').read())])\n"
        "assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules\n"
        "print(json.dumps(found[0].as_dict()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle.folder), str(tmp_path / "image.jpg")],
        cwd=ROOT,
        env={**os.environ, "LESION_CACHE": str(tmp_path / "empty")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["probability"] == pytest.approx(verdict(ways[0]).probability, abs=1e-4)
    (bundle.folder / "network.bin").unlink()
    with pytest.raises(BundleRefused, match=r"network\.bin is missing"):
        load_bundle(bundle.folder)
