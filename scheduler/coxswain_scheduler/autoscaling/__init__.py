"""How many engines of each role: from objectives, forecasts and feedback."""
