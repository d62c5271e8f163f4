"""hack/cluster is a program of its own, outside of the distribution: its package is found beside it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "hack"))
