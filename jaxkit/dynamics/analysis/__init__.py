"""What a motion does near a rest point, along a parameter and in the long run."""
