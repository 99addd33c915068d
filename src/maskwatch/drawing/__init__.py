"""Pictures with boxes drawn, and with faces hidden."""
