from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gpu_inference

ROOT = Path(gpu_inference.__file__).resolve().parent.parent
HEAVY = ("numpy", "onnxruntime", "tokenizers", "PIL", "torch")


def test_the_agent_imports_no_engine() -> None:
    script = (
        "import sys, pkgutil, importlib, gpu_inference.agent as agent\n"
        "for module in pkgutil.walk_packages(agent.__path__, 'gpu_inference.agent.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
        "print(sorted(name for name in sys.modules if name.startswith('gpu_inference.engine')))\n"
    )
    lines = subprocess.run([sys.executable, "-c", script], cwd=str(ROOT), check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert lines == ["[]", "['gpu_inference.engine', 'gpu_inference.engine.wire']"]


def test_the_command_answers_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpu_inference", "--version"], cwd=str(ROOT), check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == f"fleet-worker {gpu_inference.__version__}\n"
    text = subprocess.run(
        [sys.executable, "-m", "gpu_inference", "--help"], cwd=str(ROOT), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert "fleet-worker render" in text
    assert "examples:" in text
