"""Puts pictures and their prompts on one contact sheet."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.builtin_model.checker import Namer, look
from benchmarks.builtin_model.colours import name_colour
from benchmarks.builtin_model.prompts import Prompt
from benchmarks.builtin_model.verdict import judge

COLUMNS, TILE, TEXT, GAP = 8, 128, 34, 6


def write_sheet(shown: Sequence[tuple[Prompt, np.ndarray]], path: Path, namer: Namer = name_colour) -> None:
    """Write the sheet; a prompt that was not met is written in red."""
    rows = (len(shown) + COLUMNS - 1) // COLUMNS
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, rows * (TILE + TEXT + GAP) + GAP), (236, 236, 236))
    pen = ImageDraw.Draw(sheet)
    for index, (prompt, picture) in enumerate(shown):
        left = GAP + index % COLUMNS * (TILE + GAP)
        top = GAP + index // COLUMNS * (TILE + TEXT + GAP)
        sheet.paste(Image.fromarray(picture), (left, top))
        ink = (20, 20, 20) if judge(prompt, look(picture, namer))["all"] else (200, 0, 0)
        pen.multiline_text((left, top + TILE + 1), "\n".join(textwrap.wrap(prompt.text, 25)[:3]), fill=ink, font_size=10, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
