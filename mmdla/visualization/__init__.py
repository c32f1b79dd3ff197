"""Pictures: of predictions (``strip``, needs mmseg) and of networks (``network``)."""
