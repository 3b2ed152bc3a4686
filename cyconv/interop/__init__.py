"""Neighbours of cyconv, a module each. They import its public face, and nothing imports them."""
