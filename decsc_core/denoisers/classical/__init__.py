"""The model-driven peers: an optimisation problem and its algorithm, nothing learned."""
