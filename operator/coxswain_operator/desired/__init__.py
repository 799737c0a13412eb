"""The objects that a service consists of, as pure functions of spec and settings. One file per kind of object."""
