"""Draw a small data set, take it through the whole chain, and classify two held-out images.

Every step is the command that a user would type; it is printed before it runs. Only the request
is sent from here, and shown as the curl command that does the same.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 180
# A proxy that the environment names must not be asked for this machine's own server.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StepFailed(Exception):
    """A step ended with an exit code other than 0, after saying why itself."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        # Negative codes are signals, for which shells use this number.
        self.code = code if code > 0 else 128 - code


def say(text: str) -> None:
    """Print in step with what the commands print."""
    print(text, flush=True)


def shown(path: Path) -> str:
    """Write a path as short as possible for a command that runs in the project's folder."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def announce(arguments: list[str]) -> list[str]:
    """Print a command of this project and give the one that starts it."""
    say(f"\n$ python {shlex.join(arguments)}")
    return [sys.executable, *arguments]


def run(*arguments: str) -> int:
    """Run one of the project's commands and give its exit code."""
    return subprocess.run(announce(list(arguments)), cwd=ROOT, check=False).returncode


def must_run(*arguments: str) -> None:
    """Run one of the project's commands; stop the demo where it fails."""
    if code := run(*arguments):
        raise StepFailed(code)


def draw(images: Path, counts: dict[str, int], size: int) -> None:
    """Draw the data set unless an earlier run has."""
    if (images / "SYNTHETIC.txt").is_file():
        say(f"The drawn images in {shown(images)} are kept; remove the folder to draw new ones.")
        return
    options = [part for split, count in counts.items() for part in (f"--{split}", str(count))]
    must_run("-m", "features.datasets.drawn", shown(images), *options, "--size", str(size))


def extract(images: Path, out: Path, options: list[str]) -> tuple[Path, bool]:
    """Embed the images; give the feature file and whether the network is untrained.

    Each kind of weights has its own file, so that neither is in the other's way next time.
    """
    features = out / "features.h5"
    command = ["extract_features.py", shown(images), "--recipe", "fast"]
    if not run(*command, "--out", shown(features), "--weights", "imagenet", *options):
        return features, False
    say("\nImageNet weights can't be had here, so the demo goes on with an UNTRAINED network:")
    say("the chain is the same, but its numbers mean nothing.")
    features = out / "features-untrained.h5"
    must_run(*command, "--out", shown(features), "--weights", "untrained", *options)
    return features, True


def free_port() -> int:
    """Find a port on the loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def serving(bundle: Path) -> Iterator[str]:
    """Run the service on a bundle and give its address once it is ready."""
    port = free_port()
    command = announce(["-m", "service", "--bundle", shown(bundle), "--port", str(port)])
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(server, address)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    """Return when the service answers that it is ready; stop the demo if it ends or hangs."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if (code := server.poll()) is not None:
            raise StepFailed(code or 1)
        try:
            with HTTP.open(f"{address}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            # Not listening yet, or listening and answering 503 while the model loads.
            time.sleep(0.25)
    print(f"The service was not ready within {READY_SECONDS} seconds.", file=sys.stderr)
    raise StepFailed(1)


def classify(address: str, images: list[Path]) -> list[dict[str, Any]]:
    """Post images to the API and give its results, in the same order."""
    say(f"\n$ curl {' '.join(f'-F image=@{shown(image)}' for image in images)} \\")
    say(f"    {address}/api/v1/classify")
    boundary = secrets.token_hex(16)
    body = b""
    for image in images:
        body += (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="image"; filename="{image.name}"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        body += image.read_bytes() + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"{address}/api/v1/classify",
        data=body,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        with HTTP.open(request, timeout=60) as answer:
            results: list[dict[str, Any]] = json.load(answer)["results"]
    except urllib.error.HTTPError as error:
        print(f"The service answered {error.code}: {error.read().decode()}", file=sys.stderr)
        raise StepFailed(1) from error
    return results


def held_out(images: Path) -> list[Path]:
    """Choose one image of each class that no head was trained on."""
    return [min((images / "test" / label).glob("*.jpg")) for label in ("melanoma", "NotMelanoma")]


def tell(image: Path, result: dict[str, Any]) -> None:
    """Print what the service answered next to the truth."""
    say(f"  {shown(image)}")
    say(f"    truth:  {image.parent.name}, a synthetic (drawn) image from the test split")
    if "error" in result:
        say(f"    answer: {result['error']['message']}")
        raise StepFailed(1)
    say(
        f"    answer: {result['decision']}; probability of melanoma {result['probability']:.3f}, "
        f"threshold {result['threshold']:.3f}"
    )
    for reason in result["reasons"]:
        say(f"            {reason}")


def walk(out: Path, counts: dict[str, int], size: int, options: list[str]) -> None:
    """Take the whole chain once."""
    images, bundle = out / "images", out / "bundle"
    draw(images, counts, size)
    features, untrained = extract(images, out, options)
    must_run("fit_classifier.py", shown(features), "--out", shown(bundle), "--overwrite")
    with serving(bundle) as address:
        chosen = held_out(images)
        results = classify(address, chosen)
    say("")
    for image, result in zip(chosen, results, strict=True):
        tell(image, result)
    say("\nAll images are synthetic (drawn, no photographs); decision support, not a diagnosis.")
    if untrained:
        say("The network is untrained, so none of these numbers means anything.")
    say(f"\nThe report: {bundle / 'report.html'}")
    say(f"The form:   make serve BUNDLE={shown(bundle)}, then open http://127.0.0.1:8000")


def stop(signum: int, frame: FrameType | None) -> None:
    """Leave through every `finally`, so that the server is stopped too."""
    raise SystemExit(128 + signum)


@click.command()
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--train", default=210, show_default=True, type=click.IntRange(20))
@click.option("--valid", default=60, show_default=True, type=click.IntRange(4))
@click.option("--test", default=60, show_default=True, type=click.IntRange(4))
@click.option("--size", default=256, show_default=True, help="Side of the drawn images.")
@click.option("--input-size", type=int, help="Side of the network's input.  [default: its own]")
def main(out: Path, train: int, valid: int, test: int, size: int, input_size: int | None) -> None:
    """Show the whole chain on drawn images, in the folder OUT."""
    signal.signal(signal.SIGTERM, stop)
    start = time.monotonic()
    counts = {"train": train, "valid": valid, "test": test}
    options = ["--size", str(input_size)] if input_size else []
    try:
        walk(out.resolve(), counts, size, options)
    except StepFailed as failure:
        sys.exit(failure.code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    say(f"Done in {time.monotonic() - start:.0f} seconds.")


if __name__ == "__main__":
    main()
