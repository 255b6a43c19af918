"""What a motion does near a rest point, along a parameter, in the long run."""
