"""Print a fresh login link for the local user."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand

from saestudio.access.links import login_link


class Command(BaseCommand):
    help = "Print a link that logs in once. Example: manage.py login_link"

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(login_link())
