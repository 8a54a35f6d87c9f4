"""The catalogue of images, and where their files come from."""
