"""How requests are placed, moved, ordered and refused: one policy a file, behind one interface."""
