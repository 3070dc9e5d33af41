"""The same logged-in client as the trainings' pages."""

from tests.trainings.conftest import client, nudges, user

__all__ = ["client", "nudges", "user"]
