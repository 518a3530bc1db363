# docker build -t lesion-classifier .
# With --build-arg TENSORFLOW=yes it also serves bundles that carry no network converted for CPUs.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /venv
COPY setup.cfg pyproject.toml constraints.txt LICENSE README.md ./
COPY extract_features.py fit_classifier.py ./
COPY features features
COPY models models
COPY service service
ARG TENSORFLOW=no
# Three quarters of the image would be TensorFlow and libraries for GPUs, which serving doesn't load.
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt '.[gunicorn,postgres,redis]' \
    && if [ "$TENSORFLOW" = no ]; then \
        /venv/bin/pip uninstall --yes tensorflow keras libclang grpcio \
            nvidia-nccl-cu12 nvidia-nccl-cu13; fi \
    && find /venv -name '__pycache__' -prune -exec rm -rf {} +

FROM python:3.12-slim-bookworm
# A volume that is mounted on /feedback gets its owner.
RUN useradd --system --uid 10001 --no-create-home lesion \
    && install --directory --owner=10001 /feedback
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    LESION_CACHE=/tmp/lesion \
    LESION_BUNDLE=/bundle \
    LESION_HOST=0.0.0.0 \
    LESION_LOG=json \
    LESION_DRAIN_SECONDS=5
# /bundle is mounted read-only; /tmp is the only place that is written to, unless feedback is kept.
VOLUME ["/bundle"]
WORKDIR /tmp
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
# Without LESION_KEYS or LESION_KEY it refuses to start: it would answer everybody.
CMD ["python", "-m", "service"]
