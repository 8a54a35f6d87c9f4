"""Attacks on a running site: each was seen to succeed once, and is held off here.

A file is about what is attacked: the first line of each test says who attacks, and what they want.
"""
