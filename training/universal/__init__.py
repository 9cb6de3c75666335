"""Training of one refiner for objects of any kind: prompts, priors and pictures on the device."""
