"""Measurements of networks: complexity, memory, time, gridding, and the graph of their aggregation."""
