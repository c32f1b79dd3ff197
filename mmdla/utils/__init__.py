"""Helpers that need torch and mmengine only."""
