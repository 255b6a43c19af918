"""The motion of many lanes side by side: the loop, the methods, events, derivatives."""
