"""Training: recipes, augmentation, the Lightning module. Needs the `train` extra."""
