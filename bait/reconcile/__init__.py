"""Comparing what is with what should be: evidence, plan, and who carries it out."""
