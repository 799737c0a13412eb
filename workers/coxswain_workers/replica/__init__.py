"""One engine served to the gateways of its service: the process of a replica's Pod.

`__main__` is the Pod's first process. It starts a Ray cluster no wider than the Pod (`ray_head`) and the engine actor
in it (`actor`), which Ray restarts in place; `supervisor` watches over it and serves the probes. In the actor,
`StepLoop` runs the engine in a thread of its own and `Replica` speaks the protocol with every gateway from another, so
that a long step silences nothing. Tokens never pass through Ray.
"""
