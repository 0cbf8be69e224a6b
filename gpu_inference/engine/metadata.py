"""What a PNG says of how it was made, enough to make it again.

Two text chunks: ``parameters`` in the wording that AUTOMATIC1111's web UI made usual, for people and other tools, and
``fleet``, JSON in ASCII, which loses nothing and is what :func:`read_metadata` returns.
"""

from __future__ import annotations

import io
import json
from typing import Any, Dict, Optional

from PIL import Image
from PIL.PngImagePlugin import PngInfo

PARAMETERS, FLEET = "parameters", "fleet"
FORMAT = 1
COMPRESS_LEVEL = 1
"""Higher levels cost seconds at large sizes and save little on pictures."""

SAMPLER_TITLES = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "dpm++_2m": "DPM++ 2M",
    "dpm++_2m_karras": "DPM++ 2M Karras",
    "ddim": "DDIM",
    "lms": "LMS",
    "heun": "Heun",
    "dpm_fast": "DPM fast",
}


def _plain(text: str) -> str:
    """``text`` without what a PNG's text chunk cannot hold."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',:"\n') else text


def _lora(data: Dict[str, Any]) -> str:
    if not data.get("lora"):
        return ""
    more = [f"{each['name']} {each['strength']:g}" for each in data.get("loras", [])]
    return _quoted(", ".join([f"{data['lora']} {data['lora_strength']:g}", *more]))


def parameters_text(data: Dict[str, Any]) -> str:
    """The ``parameters`` text of a picture's metadata."""
    figures = {
        "Steps": data["steps"],
        "Sampler": SAMPLER_TITLES.get(data["scheduler"], data["scheduler"]),
        "CFG scale": f"{data['guidance_scale']:g}",
        "Seed": data["seed"],
        "Size": f"{data['width']}x{data['height']}",
        "Model hash": str(data.get("model_hash", ""))[:10],
        "Model": _quoted(data["model"]),
        "Lora": _lora(data),
        "Native size": f"{data['native_width']}x{data['native_height']}",
        "Version": _quoted("fleet-worker " + str(data.get("version", ""))),
    }
    lines = [data["prompt"]]
    if data["negative_prompt"]:
        lines.append("Negative prompt: " + data["negative_prompt"])
    lines.append(", ".join("{}: {}".format(*item) for item in figures.items() if item[1] != ""))
    return _plain("\n".join(lines))


def write_png(picture: Image.Image, data: Dict[str, Any]) -> bytes:
    """The picture as PNG with its metadata. ``data`` is JSON-able and has the keys of the request and the result."""
    info = PngInfo()
    text = parameters_text(data)
    try:
        text.encode("latin-1")
        info.add_text(PARAMETERS, text)
    except UnicodeEncodeError:
        info.add_itxt(PARAMETERS, text)
    info.add_text(FLEET, json.dumps(dict(data, format=FORMAT), sort_keys=True))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info, compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()


def read_metadata(png: bytes) -> Optional[Dict[str, Any]]:
    """The ``fleet`` metadata of a PNG, or None where it has none that can be read."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            picture.load()
            data = json.loads(picture.info.get(FLEET, ""))
    except (OSError, ValueError, SyntaxError):
        return None
    return data if isinstance(data, dict) else None
