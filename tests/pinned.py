"""Pins this process as the trainer's container does itself, so that what is trained here gives the same bytes."""

import os
import sys

from modelmill_trainer.pins import pin

assert "numpy" not in sys.modules, "numpy has chosen its kernels already"
pin(os.environ)
