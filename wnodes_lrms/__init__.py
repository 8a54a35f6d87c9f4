"""The shared core of wnodes-lrms: configuration, images, policy, the LRMS, the `wnodes` command."""
