"""The operator: a process that makes LLMServices real, and keeps them so.

Rooms, each knowing only those further down; `lint-imports` holds them to it:

- here: the process, its flags and pages, and the Lease by which one of several acts;
- `reconciling`: passes over services, which carry out what was decided, and the queue that they come from;
- `judging`: what is lost, what to do about it and how a service stands; pure;
- `desired`: the objects that a service consists of; pure;
- `observing`: what gateways and coordinators say;
- `cluster`: what the API server says, and how it is talked to.
"""
