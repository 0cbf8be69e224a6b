"""``python -m gpu_inference.agent``."""

import sys

from gpu_inference.agent.cli import main

sys.exit(main())
