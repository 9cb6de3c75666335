"""Studies that train: each row of a table is a recipe, each cell a way to refine with its model."""
