"""How many lanes move side by side: the loop, the methods, events, derivatives."""
