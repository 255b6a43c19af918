"""The ground floor: outcomes, frozen pytrees, argument checks, safe numerics, the environment."""
