"""Questions of the paper that one trained model answers: steps, small objects, other data sets."""
