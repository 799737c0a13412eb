"""A cluster in virtual time: the real batching and the real policies, with a cost model in place of a model."""
