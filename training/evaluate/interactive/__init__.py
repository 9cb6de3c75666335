"""A simulated annotator: strokes on the largest errors, with and without a model that answers."""
