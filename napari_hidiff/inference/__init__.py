"""All that runs a model: card, catalog, weights, preprocessing, tiles, and HiDiff itself."""
