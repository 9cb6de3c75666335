"""What only a generative refiner can do: alternatives, ambiguity, thin structures, uncertainty."""
