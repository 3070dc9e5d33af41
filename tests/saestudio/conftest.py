"""What the tests of trainings use is used here, too."""

from tests.trainings.conftest import nudges

__all__ = ["nudges"]
