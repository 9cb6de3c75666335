"""What the buttons start."""
