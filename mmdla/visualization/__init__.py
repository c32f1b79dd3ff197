"""Pictures: of predictions (``strip``, needs mmseg), of networks (``network``), of grids in their maps
(``gridding``).
"""
