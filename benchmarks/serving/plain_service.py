"""What a user would write without this project: Flask, Keras' `predict`, a pickled head."""

from __future__ import annotations

import io
import os

import joblib
import keras
import numpy as np
from flask import Flask, request
from PIL import Image
from waitress import serve

app = Flask(__name__)
network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
network.load_weights(os.environ["PLAIN_WEIGHTS"])
head = joblib.load(os.environ["PLAIN_HEAD"])


@app.get("/readyz")
def ready() -> str:
    """Answer once everything above is loaded."""
    return "ok"


@app.post("/api/v1/classify")
def classify() -> dict[str, float]:
    """Classify one image."""
    image = Image.open(io.BytesIO(request.files["image"].read())).convert("RGB").resize((299, 299))
    pixels = keras.applications.inception_v3.preprocess_input(np.asarray(image, np.float32)[None])
    features = network.predict(pixels, verbose=0)
    return {"probability": float(head.predict_proba(features)[0, 1])}


if __name__ == "__main__":
    serve(app, host="127.0.0.1", port=int(os.environ["PLAIN_PORT"]), threads=16)
