"""The methods behind `root`, one family a file, each a start and a step for the one loop."""

from jaxkit.dynamics.roots.methods.registry import METHODS as METHODS
from jaxkit.dynamics.roots.methods.registry import choose as choose
