"""Where a user may point: local paths, checked on the web side and again in the worker."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError


def check_local_path(text: str) -> Path:
    """The file or folder itself, links resolved, if it exists inside an allowed root.

    Raises `ValidationError` with one sentence. What lies outside is refused before it is looked
    for, so that the answer does not tell what exists there.
    """
    try:
        path = Path(text.strip()).expanduser()
    except RuntimeError as error:
        raise ValidationError(f"{text!r} names the home of nobody who is known here.") from error
    if not path.is_absolute():
        raise ValidationError(f"Write the whole path, from the root: {text!r} is relative.")
    try:
        found = path.resolve()
        roots = [Path(root).resolve() for root in settings.ALLOWED_ROOTS]
        inside = any(found.is_relative_to(root) for root in roots)
        exists = inside and found.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValidationError(f"{text!r} is not a usable path.") from error
    if not inside:
        raise ValidationError(
            f"{path} is outside the folders that may be read ({_listed(roots)}); "
            "SAESTUDIO_ALLOWED_ROOTS names them."
        )
    if not exists:
        raise ValidationError(f"{path} does not exist.")
    return found


def _listed(roots: list[Path]) -> str:
    return ", ".join(str(root) for root in roots) or "none"
