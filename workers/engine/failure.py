"""What ends a run with a sentence of its own."""


class TrainingError(Exception):
    """The run cannot go on; the message is a sentence for the researcher."""
