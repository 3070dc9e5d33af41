"""What each latent of an SAE means: where it fires, what it says, and which others are like it.

The table is read without torch (`table.py`), and written for Neuronpedia (`neuronpedia.py`); what
makes it is `collect.py`.
"""

from .table import Feature, FeatureTable, Listed, Order, UnreadableTable

__all__ = ["Feature", "FeatureTable", "Listed", "Order", "UnreadableTable"]
