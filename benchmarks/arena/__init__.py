"""The comparison that `make bench-scheduler` runs: policies beside policies, Dynamo beside them, bounds above all."""
