"""The files for operators name only what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import create_app
from service.classifier.loaded import LoadedClassifier
from service.server import GRACE_SECONDS
from service.settings import OPTIONS, Settings
from tests.conftest import ROOT

FILES = (
    "Dockerfile",
    "compose.yaml",
    "deploy/lesion-classifier.service",
    "deploy/kubernetes.yaml",
)
MANIFEST = ROOT / "deploy" / "kubernetes.yaml"
# Read by the libraries beneath, not by the service.
OTHERS = {"LESION_CACHE"}


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_a_setting(name: str) -> None:
    named = set(re.findall(r"LESION_[A-Z_]+", (ROOT / name).read_text()))
    assert named
    assert named <= {str(option.envvar) for option in OPTIONS} | OTHERS


def test_the_image_is_made_of_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.+)", text, re.MULTILINE)
    for path in " ".join(copied).split():
        assert path.startswith("./") or (ROOT / path).exists(), path
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert all((ROOT / path).exists() for path in kept)
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text


def test_the_composition_closes_what_it_can() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    classifier = services["classifier"]
    assert classifier["read_only"]
    assert classifier["cap_drop"] == ["ALL"]
    assert "ports" not in classifier
    for service in services.values():
        for volume in service["volumes"]:
            source, target, *mode = volume.split(":")
            assert mode == ["ro"] or target == "/feedback"
            if source.startswith("./deploy/") and not source.endswith(("tls", "keys.txt")):
                assert (ROOT / source).exists()


def test_the_proxy_says_who_asks_and_keeps_uploads_in_memory() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    for header in ("For", "Proto", "Host", "Prefix"):
        assert f"proxy_set_header X-Forwarded-{header}" in text
    megabytes = {int(size) for size in re.findall(r"client_body_buffer_size (\d+)m", text)}
    limit = {int(size) for size in re.findall(r"client_max_body_size (\d+)m", text)}
    assert megabytes == limit == {Settings(bundle=Path()).max_upload_mb}


def manifests() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_the_manifest_is_as_kubernetes_has_it(version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    found = manifests()
    assert sorted(found) == ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"]
    for each in found.values():
        validator.validate(each, version, strict=True)
    found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(validator.ValidationError, match="livenesProbe"):
        validator.validate(found["Deployment"], version, strict=True)


def test_the_pods_are_closed_and_hold_no_secret() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    user = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(user[1])
    assert not pod["automountServiceAccountToken"]
    for container in (*pod["initContainers"], *pod["containers"]):
        closed = container["securityContext"]
        assert closed["readOnlyRootFilesystem"]
        assert not closed["allowPrivilegeEscalation"]
        assert closed["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    variables = {each["name"]: each for each in pod["containers"][0]["env"]}
    for name in ("LESION_SECRET", "LESION_FEEDBACK", "LESION_RATE_STORAGE"):
        assert set(variables[name]) == {"name", "valueFrom"}
    # The bundle, /tmp, and the keys where the settings say.
    places = {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert places == {"/bundle", "/tmp", str(Path(variables["LESION_KEYS"]["value"]).parent)}  # noqa: S108
    assert {each["name"] for each in pod["volumes"]} == {"bundle", "tmp", "keys"}
    seconds = int(variables["LESION_DRAIN_SECONDS"]["value"])
    assert pod["terminationGracePeriodSeconds"] > seconds + GRACE_SECONDS


def test_kubernetes_asks_where_the_service_answers(tmp_path: Path) -> None:
    found = manifests()
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    settings = Settings(bundle=tmp_path)
    client = create_app(settings, LoadedClassifier(settings)).test_client()
    statuses = {
        kind: client.get(container[f"{kind}Probe"]["httpGet"]["path"]).status_code
        for kind in ("startup", "readiness", "liveness")
    }
    # Before the bundle is loaded.
    assert statuses == {"startup": 503, "readiness": 503, "liveness": 200}
    (port,) = container["ports"]
    assert port["containerPort"] == settings.port
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert found[kind]["spec"]["selector"]["matchLabels"] == labels
    assert (
        found["PodDisruptionBudget"]["spec"]["minAvailable"]
        < found["Deployment"]["spec"]["replicas"]
    )


@pytest.mark.slow
def test_a_wheel_has_the_pages(tmp_path: Path) -> None:
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), "."]
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("templates", "static"):
        for path in (ROOT / "service" / "pages" / folder).rglob("*.*"):
            assert path.relative_to(ROOT).as_posix() in names
