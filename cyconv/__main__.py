"""python -m cyconv: what is running here."""

from cyconv import show_config

show_config()
