"""The protocol: OCCI's model, requests parsed and checked, answers rendered. Pure."""
