"""The only readers of files from elsewhere."""
