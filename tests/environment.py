"""Loaded before everything else: tests have a data folder of their own and no network."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Short, so that the Redis socket's path stays within the kernel's limit.
HOME = Path(tempfile.mkdtemp(prefix="sae-"))
(HOME / "static").mkdir()
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ["SAESTUDIO_HOME"] = str(HOME)
os.environ["DJANGO_SETTINGS_MODULE"] = "saestudio.settings"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["SAESTUDIO_EVALUATE"] = "0"  # A process for each small training; tests ask for it.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # Several processes share the cores.
# Read when Triton is imported; `make test-gpu` runs the kernels on the device instead.
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's own loop runs in the test's thread.
for name in ("REDIS_URL", "SAESTUDIO_SECRET_KEY", "SAESTUDIO_PORT", "SAESTUDIO_DEBUG"):
    os.environ.pop(name, None)
if os.environ.get("SAESTUDIO_TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = os.environ["SAESTUDIO_TEST_DATABASE_URL"]
else:
    os.environ.pop("DATABASE_URL", None)
