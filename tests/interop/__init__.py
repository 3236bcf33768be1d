"""Other implementations against ours."""
