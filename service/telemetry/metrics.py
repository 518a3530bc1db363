"""What an operator watches: counters and histograms in the format of Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from models.bundle.loading import Bundle
    from models.inference.verdict import Rejected, Verdict

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TWENTIETHS: Final = tuple(step / 20 for step in range(1, 21))
# Set by the process manager when several processes count together.
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        own = self._own = CollectorRegistry()
        self.requests = Counter(
            "lesion_requests", "Requests answered", ["method", "route", "status"], registry=own
        )
        self.seconds = Histogram(
            "lesion_request_seconds",
            "From the whole request to its whole answer",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self.stage = Histogram(
            "lesion_stage_seconds",
            "decode and head: of a request; wait: for a pass of the network; embed: of a pass",
            ["stage"],
            buckets=_SECONDS,
            registry=own,
        )
        self.pass_images = Histogram(
            "lesion_pass_images",
            "Images in a pass of the network",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=own,
        )
        self.images = Counter(
            "lesion_images",
            "Images by decision, or by why they were refused",
            ["outcome"],
            registry=own,
        )
        self.probability = Histogram(
            "lesion_probability",
            "Probabilities given; compare with lesion_training_flagged_share",
            buckets=_TWENTIETHS,
            registry=own,
        )
        self.distance = Histogram(
            "lesion_distance",
            "Distance of embeddings from the training images; beyond lesion_distance_limit it can't"
            " be told",
            buckets=_TWENTIETHS,
            registry=own,
        )
        self.distance_limit = Gauge(
            "lesion_distance_limit",
            "Distance beyond which the given share of training images would lie by chance",
            ["share"],
            multiprocess_mode="livemostrecent",
            registry=own,
        )
        self.refused = Counter(
            "lesion_refused", "Requests refused before any work", ["reason"], registry=own
        )
        self.in_flight = Gauge(
            "lesion_requests_in_flight",
            "Requests that are being answered",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.waiting = Gauge(
            "lesion_images_waiting",
            "Decoded images that wait for the network",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.ready = Gauge(
            "lesion_ready", "Whether requests are taken", multiprocess_mode="livemin", registry=own
        )
        self.reloads = Counter(
            "lesion_reloads", "Bundles taken or refused while serving", ["outcome"], registry=own
        )
        self.feedback = Counter(
            "lesion_feedback", "Labels recorded by reviewers", ["label"], registry=own
        )
        self.bundle = Gauge(
            "lesion_bundle_created_seconds",
            "When the bundle that is served was made",
            ["bundle", "fingerprint", "head"],
            multiprocess_mode="liveall",
            registry=own,
        )
        self.flagged_share = Gauge(
            "lesion_training_flagged_share",
            "Share of the training images, cross-validated, that are flagged at the threshold",
            multiprocess_mode="livemostrecent",
            registry=own,
        )

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` for the length of the queue whenever the metrics are read."""
        if _SHARED not in os.environ:
            self.waiting.set_function(waiting)

    def note(self, result: Verdict | Rejected) -> None:
        """Count what became of an image."""
        decision = getattr(result, "decision", None)
        if decision is None:
            self.images.labels(f"refused: {getattr(result, 'code', 'unreadable')}").inc()
            return
        self.images.labels(decision).inc()
        self.probability.observe(getattr(result, "probability", 0.0))
        distance = getattr(result, "distance", None)
        if distance is not None:
            self.distance.observe(distance)

    def serving(self, bundle: Bundle, created: float) -> None:
        """Say which bundle is served, and how often its head flagged at its making."""
        if _SHARED not in os.environ:
            self.bundle.clear()
        self.bundle.labels(bundle.identity[:16], bundle.fingerprint[:16], bundle.head_name).set(
            created
        )
        gallery = bundle.gallery
        if gallery is not None and gallery.limit is not None:
            self.distance_limit.labels(f"{gallery.alpha:g}").set(gallery.limit)
        point = bundle.metrics.get("cross-validation", {}).get("operating_point") or {}
        counted = [int(point.get(name, 0)) for name in ("tp", "fp", "tn", "fn")]
        if any(counted):
            self.flagged_share.set((counted[0] + counted[1]) / sum(counted))

    def text(self) -> bytes:
        """Give all of it as Prometheus reads it."""
        if _SHARED in os.environ:
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            return generate_latest(together)
        return generate_latest(self._own)
