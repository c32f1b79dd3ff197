"""Metrics. Each module needs the library that it extends, so import them by their full names."""
