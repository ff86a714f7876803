"""Colours of all pictures: Okabe & Ito's, which colour-blind people tell apart."""

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#9c4a7f", "#9aa0a6"
INK, GRID = "#1f2933", "#e4e7eb"
