"""From corrected labels to a better model: check, split, fine-tune, compare, then take it or leave it."""
