"""The methods behind `root`, one family in each file; a method is a start and a step for the one loop."""

from jaxkit.dynamics.roots.methods.registry import METHODS as METHODS
from jaxkit.dynamics.roots.methods.registry import choose as choose
