"""``fleet-worker engines``: build, calibrate, list and remove the engines of TensorRT on this node."""

from __future__ import annotations

import argparse

from gpu_inference.agent.settings import Settings

EXAMPLES = """examples:
  fleet-worker engines build models/sdxl-base
  fleet-worker engines calibrate sdxl-base --prompts prompts.txt
  fleet-worker engines build sdxl-base --lora ink:0.6
  fleet-worker engines list
  fleet-worker engines remove sdxl-base
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    commands = parser.add_subparsers(dest="action", metavar="action")
    commands.required = True
    build = commands.add_parser("build", help="build the engines of a model that are not there yet; takes minutes")
    build.add_argument("model", help="a model's folder, or the name of one of the agent's models")
    build.add_argument("--lines", action="store_true", help="tell of the progress as lines of JSON")
    calibrate = commands.add_parser("calibrate", help="have the UNet's engine compute in int8; makes pictures first, takes long")
    calibrate.add_argument("model", help="a model's folder, or the name of one of the agent's models")
    calibrate.add_argument("--prompts", metavar="FILE", help="prompts like those it is for, a line each (default: eight of all kinds)")
    wanted = commands.add_parser("wanted", help="show which engines a model has and lacks on this node, as lines of JSON")
    wanted.add_argument("model", help="a model's folder, or the name of one of the agent's models")
    for command in (build, wanted):
        command.add_argument(
            "--lora",
            action="append",
            default=[],
            metavar="NAME[:STRENGTH]",
            help="with this LoRA in the weights, for engines that take none",
        )
    for command in (build, calibrate, wanted):
        command.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)  # the agent, which it is not to outlive
    commands.add_parser("list", help="show what was built")
    remove = commands.add_parser("remove", help="remove the engines of a model")
    remove.add_argument("model", help="a model's name")


def run(options: argparse.Namespace, settings: Settings) -> str:
    """Does it; returns an error's sentence, or an empty text."""
    from gpu_inference.building.actions import act  # it needs the packages of an engine, which an agent may lack

    return act(options, settings)
