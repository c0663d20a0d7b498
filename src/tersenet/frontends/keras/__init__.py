"""Keras networks: files of Keras 2 and 3, read from their configuration and weights; nothing in them is executed."""
