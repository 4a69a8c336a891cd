"""Parts of algorithms: rules, steps, transforms, critics, actors; pure functions with one small state each."""
