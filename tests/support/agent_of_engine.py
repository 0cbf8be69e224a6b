"""The agent with a program that misbehaves in its engine's place: ``python -m tests.support.agent_of_engine run``."""

from __future__ import annotations

import sys

from gpu_inference.agent import cli, engine_process

if __name__ == "__main__":
    engine_process.engine_command = lambda settings: [sys.executable, "-m", "tests.support.bad_engine"]
    sys.exit(cli.main(sys.argv[1:]))
