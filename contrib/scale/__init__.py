"""`make scale`: the product on many nodes, measured. docs/scale.md says what is simulated."""
