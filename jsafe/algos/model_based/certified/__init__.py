"""What CRABS is made of: options, state, gradient steps, the stages of an epoch, and their assembly."""
