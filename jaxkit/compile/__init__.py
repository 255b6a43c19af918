"""How a formula becomes a fast program; every workaround of a compiler lives here, with its reason."""
