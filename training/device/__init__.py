"""What every recipe does on a GPU: strokes for a batch, updates recorded once and replayed."""
