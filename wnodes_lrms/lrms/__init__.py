"""The batch systems: what each must be able to do, and a folder for each that is known."""
