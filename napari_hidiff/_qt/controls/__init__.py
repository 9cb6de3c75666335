"""What is seen in the dock."""
