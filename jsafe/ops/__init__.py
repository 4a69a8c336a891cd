"""Stateless maths on arrays: no parameters, no state, nothing but JAX and chex."""
