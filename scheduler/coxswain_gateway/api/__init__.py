"""OpenAI's HTTP API: requests checked, answers shaped, streams written."""
