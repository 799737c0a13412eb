"""What is done to each row, or to each head of it, by itself."""
