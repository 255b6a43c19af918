"""Scores: from denoising autoencoders to generative models with a likelihood one can trust."""
