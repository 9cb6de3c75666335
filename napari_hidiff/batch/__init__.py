"""Many image files: jobs, their records, and the processes that work on them."""
