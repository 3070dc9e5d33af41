"""`python -m workers.engine.config` prints docs/hyperparameters.md."""

import sys

from .reference import markdown

sys.stdout.write(markdown())
