"""The objects that a service consists of, as pure functions: spec × settings → manifests. One file per kind of object."""
