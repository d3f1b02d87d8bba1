"""Strategies, the cost model and the elastic model."""
