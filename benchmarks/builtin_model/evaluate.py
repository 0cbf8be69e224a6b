"""Measures the built-in model: ``python -m benchmarks.builtin_model.evaluate --model gpu_inference/builtin/model``."""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.builtin_model import prompts
from benchmarks.builtin_model.checker import Namer, look
from benchmarks.builtin_model.colours import NAMERS, name_colour
from benchmarks.builtin_model.prompts import Prompt, by_night
from benchmarks.builtin_model.renderer import API_GUIDANCE, Renderer
from benchmarks.builtin_model.sheet import write_sheet
from benchmarks.builtin_model.verdict import judge
from gpu_inference.engine.request import DEFAULT_LORA_STRENGTH

PARTS = ("background", "colour", "shape", "size", "place", "all")
Tally = dict[str, float]


def shares(asked: Sequence[Prompt], pictures: Sequence[np.ndarray], namer: Namer = name_colour) -> Tally:
    """Return for every part the share of pictures in which it is right."""
    verdicts = [judge(prompt, look(picture, namer)) for prompt, picture in zip(asked, pictures, strict=True)]
    return {part: sum(verdict[part] for verdict in verdicts) / len(verdicts) for part in PARTS}


def shuffled(asked: Sequence[Prompt], seed: int = 5) -> list[Prompt]:
    """Give every picture the prompt of another one; what is right then is right by chance."""
    order = list(range(len(asked)))
    random.Random(seed).shuffle(order)
    return [asked[index] for index in order]


def render_all(renderer: Renderer, asked: Sequence[Prompt], seeds: Sequence[int], options: argparse.Namespace) -> list[np.ndarray]:
    """Render every prompt."""
    texts = [prompt.text for prompt in asked]
    return renderer.render(texts, seeds, steps=options.steps, guidance=options.guidance, sampler=options.sampler)


def row(name: str, count: int, tally: Tally) -> str:
    """Format one line of the table."""
    return "| {} | {} | {} |".format(name, count, " | ".join(f"{100 * tally[part]:.1f} %" for part in PARTS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the prompt sets, print a table of what is right, and write figures and contact sheet where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("gpu_inference/builtin/model"), help="model folder")
    parser.add_argument("--sets", nargs="+", default=["held-out", "one", "two"], help="held-out, one, two (default all)")
    parser.add_argument("--limit", type=int, default=0, help="use only so many prompts of each set, spread over it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=API_GUIDANCE, help="as a request would ask for it (default: the API's, 7.5)")
    parser.add_argument("--sampler", default="euler", help="a scheduler of the engine (default euler)")
    parser.add_argument("--palette", choices=tuple(NAMERS), default="standard", help="what the colour words mean to the model")
    parser.add_argument("--lora", type=Path, help="the LoRA night, to be judged by what it promises")
    parser.add_argument("--lora-strength", type=float, default=DEFAULT_LORA_STRENGTH)
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first picture; the next ones follow it")
    parser.add_argument("--threads", type=int, default=0, help="threads of ONNX Runtime (default: its own choice)")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write (PNG)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--failures", action="store_true", help="list the prompts that were not met")
    options = parser.parse_args(arguments)
    renderer, namer = Renderer(options.model, options.threads, options.lora, options.lora_strength), NAMERS[options.palette]
    sets = {"held-out": prompts.held_out() * 2, "one": prompts.one_object(), "two": prompts.two_objects()}
    figures: dict[str, Tally] = {}
    shown: list[tuple[Prompt, np.ndarray]] = []
    print("| prompts | pictures | {} |".format(" | ".join(PARTS)))
    print("|---" * (len(PARTS) + 2) + "|")
    for name in options.sets:
        asked = sets[name]
        seeds = [options.seed + index for index in range(len(asked))]
        if options.limit and options.limit < len(asked):
            chosen = [index * len(asked) // options.limit for index in range(options.limit)]
            asked, seeds = [asked[index] for index in chosen], [seeds[index] for index in chosen]
        begun = time.time()
        pictures = render_all(renderer, asked, seeds, options)
        seconds = (time.time() - begun) / len(asked)
        asked = [by_night(prompt) for prompt in asked] if options.lora else asked
        figures[name] = shares(asked, pictures, namer)
        print(row(name, len(asked), figures[name]), f"{seconds:.2f} s a picture", flush=True)
        figures[name + ", shuffled"] = shares(shuffled(asked), pictures, namer)
        print(row(name + ", shuffled", len(asked), figures[name + ", shuffled"]), flush=True)
        shown += list(zip(asked, pictures, strict=True))[: 96 if name == "held-out" else 24]
        if options.failures:
            for prompt, picture in zip(asked, pictures, strict=True):
                if not judge(prompt, look(picture, namer))["all"]:
                    print("  ", prompt.text, "->", look(picture, namer))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.sheet:
        write_sheet(shown, options.sheet, namer)


if __name__ == "__main__":
    main()
