"""``python -m gpu_inference``: the command ``fleet-worker``."""

import sys

from gpu_inference.agent.cli import main

sys.exit(main())
