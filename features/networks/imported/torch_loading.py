"""Networks of timm and Hugging Face as torch computes them, for `torch_export` alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.networks.imported.torch_settings import Unsaid, trained_on
from features.networks.imported.torch_settings import from_processor as said_by_processor
from features.networks.imported.torch_settings import from_timm as said_by_timm

__all__ = ["Loaded", "Refused", "from_hugging_face", "from_timm"]

Say = Callable[[str], None]


class Refused(Exception):
    """Weights or a network that can't be used; its text is the reason."""


@dataclass
class Loaded:
    """A network, what is said of it, and what gives its own features and its last map."""

    model: Any
    both: Any
    size: int
    prefix: int
    name: str
    input: dict[str, Any] | None
    unsaid: str = ""
    licence: str = ""
    trained_on: str = ""
    libraries: dict[str, str] = field(default_factory=dict)


def from_timm(torch: Any, request: Mapping[str, Any], say: Say) -> Loaded:
    """Build a network of timm with the weights that were asked for."""
    import timm
    from timm.layers import set_exportable, set_fused_attn

    set_exportable(True)
    set_fused_attn(False)
    name, weights = request["name"], request["weights"]
    architecture = name.removeprefix("timm/").partition(".")[0]
    if not timm.is_model(architecture):
        near = timm.list_models(f"*{architecture.partition('_')[0]}*")[:5]
        raise Refused(
            f"timm {timm.__version__} has no network {architecture}"
            + (f", but {', '.join(near)}" if near else "")
        )
    if weights == "imagenet":
        say("fetch")
        model = timm.create_model(name, pretrained=True)
    elif weights == "untrained":
        say("build")
        model = timm.create_model(name, pretrained=False)
    else:
        say("load")
        model = _with_weights(torch, timm, name, Path(weights))
    about = model.pretrained_cfg
    model.reset_classifier(0)
    model.eval()
    config = timm.data.resolve_model_data_config(model)
    said, unsaid = _said(said_by_timm, config)
    tag = about.get("tag") or ""
    own = request["published"]
    last_channels = model.num_features

    def both(image: Any) -> tuple[Any, Any]:
        last = model.forward_features(image)
        own = model.forward_head(last, pre_logits=True)
        rows = getattr(model, "output_fmt", "NCHW") == "NHWC"
        if last.ndim == 4 and (rows or last.shape[1] != last_channels == last.shape[3]):
            last = last.permute(0, 3, 1, 2)
        return own, last

    return Loaded(
        model=model,
        both=both,
        size=int(config["input_size"][-1]),
        prefix=int(getattr(model, "num_prefix_tokens", 0) or 0),
        name=f"{architecture}.{tag}" if own and tag else name.removeprefix("timm/"),
        input=said,
        unsaid=unsaid,
        licence=str(about.get("license") or "") if own else "",
        trained_on=trained_on(tag) if own else "",
        libraries={"timm": timm.__version__},
    )


def _with_weights(torch: Any, timm: Any, name: str, path: Path) -> Any:
    """Build a network and give it all the numbers of a file, and no others."""
    from timm.models import load_state_dict

    state = load_state_dict(str(path), device="cpu", weights_only=True)
    overlay = _beside(path, name)
    model = timm.create_model(name, pretrained=False, pretrained_cfg_overlay=overlay)
    head = model.pretrained_cfg.get("classifier")
    found = state.get(f"{head}.weight") if isinstance(head, str) else None
    if isinstance(head, str) and (found is None or len(found) != model.num_classes):
        classes = 0 if found is None else len(found)
        model = timm.create_model(
            name, pretrained=False, pretrained_cfg_overlay=overlay, num_classes=classes
        )
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        missing, unexpected = (
            (set(model.state_dict()) - set(state)),
            set(state) - set(model.state_dict()),
        )
        odd = sorted(missing)[:2] + sorted(unexpected)[:2]
        why = f"such as {', '.join(odd)}" if odd else "their shapes differ"
        raise Refused(
            f"the weights in {path} are not those of {name}: {len(missing)} of its tensors are "
            f"missing and {len(unexpected)} are not its own ({why})"
        ) from error
    return model


def _beside(path: Path, name: str) -> dict[str, Any]:
    """Read what timm keeps beside weights, in a folder as its hub has it."""
    beside = path.with_name("config.json")
    if not beside.is_file():
        return {}
    told = json.loads(beside.read_text(encoding="utf-8"))
    architecture = told.get("architecture")
    if architecture is None:
        return {}
    if architecture != name.removeprefix("timm/").partition(".")[0]:
        raise Refused(f"{beside} says that the weights are of {architecture}, and not of {name}")
    known = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "classifier")
    return {key: value for key, value in told["pretrained_cfg"].items() if key in known}


def from_hugging_face(torch: Any, request: Mapping[str, Any], say: Say) -> Loaded:
    """Build a network of Hugging Face with the weights that were asked for."""
    import transformers
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    weights = request["weights"]
    where = request["name"] if weights in ("imagenet", "untrained") else weights
    say("load" if where == weights else "fetch")
    config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    missing: set[str] = set()
    if weights == "untrained":
        model = AutoModel.from_config(config)
    else:
        model, info = AutoModel.from_pretrained(
            where, config=config, trust_remote_code=False, weights_only=True,
            dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
        missing = set(info["missing_keys"])
    said, unsaid = _said(
        said_by_processor,
        AutoImageProcessor.from_pretrained(where, trust_remote_code=False).to_dict(),
    )
    model = getattr(model, "vision_model", model).eval()
    told = getattr(config, "vision_config", config)
    lost = sorted(key for key in missing if "pooler" not in key and "text_model" not in key)
    if lost:
        raise Refused(
            f"{where} has no numbers for {len(lost)} tensors of its network, such as {lost[0]}"
        )
    size = said["size"] if said else _one(getattr(told, "image_size", None), where)
    patch = getattr(told, "patch_size", None)
    pooler = getattr(model, "pooler", None)
    # BERT's kind of pooler belongs to the task that a network was trained for, if it was at all.
    plain = hasattr(pooler, "dense") or any("pooler" in key for key in missing)
    _keep_positions(model)
    prefix = _prefix(torch, model, size, patch)

    def both(image: Any) -> tuple[Any, Any]:
        found = model(pixel_values=image)
        last, own = found.last_hidden_state, getattr(found, "pooler_output", None)
        if own is None or plain:
            own = last[:, 0] if last.ndim == 3 and prefix else None
        if own is None:
            own = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
        return own.flatten(1), last

    return Loaded(
        model=model,
        both=both,
        size=size,
        prefix=prefix,
        name=request["name"],
        input=said,
        unsaid=unsaid,
        libraries={"transformers": transformers.__version__},
    )


def _keep_positions(model: Any) -> None:
    """Compute what is added to patches for their places once: the same for every image of a size.

    Some networks would interpolate it in the exported file, with what ONNX doesn't have.
    """
    for module in model.modules():
        if callable(plain := getattr(module, "interpolate_pos_encoding", None)):
            module.interpolate_pos_encoding = _once(plain)


def _once(plain: Any) -> Any:
    kept: list[Any] = []

    def first(*words: Any, **more: Any) -> Any:
        if not kept:
            kept.append(plain(*words, **more).detach())
        return kept[0]

    return first


def _prefix(torch: Any, model: Any, size: int, patch: object) -> int:
    with torch.no_grad():
        last = model(pixel_values=torch.zeros(1, 3, size, size)).last_hidden_state
    if last.ndim != 3:
        return 0
    patches = (size // patch) ** 2 if isinstance(patch, int) and patch else 0
    return last.shape[1] - patches if 0 < patches <= last.shape[1] else 0


def _one(size: object, where: str) -> int:
    if not isinstance(size, int):
        raise Refused(f"{where} says {size} of its input's size, expected one number of pixels")
    return size


def _said(read: Any, config: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    try:
        return read(config), ""
    except Unsaid as error:
        return None, str(error)
