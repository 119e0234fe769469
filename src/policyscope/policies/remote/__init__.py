"""Policies that answer over a network: two public protocols, spoken without their packages.

What a server answers is a stranger's: it is measured before it takes memory, and what it says of
itself is typed. Nothing is ever unpickled.
"""
