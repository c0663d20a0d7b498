"""Properties are tried on the same examples every time, and a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("numerics", deadline=None, derandomize=True)
settings.load_profile("numerics")
