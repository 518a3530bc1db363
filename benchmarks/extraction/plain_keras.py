"""What a user would write without this project: Keras' own loader and `predict`, one .npy out."""

from __future__ import annotations

import sys

import keras
import numpy as np


def main() -> None:
    images, weights, out = sys.argv[1:4]
    data = keras.utils.image_dataset_from_directory(
        images, label_mode=None, image_size=(299, 299), batch_size=32, shuffle=False
    )
    network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    network.load_weights(weights)
    preprocess = keras.applications.inception_v3.preprocess_input
    np.save(out, network.predict(data.map(preprocess), verbose=0))


if __name__ == "__main__":
    main()
