"""One per service: sees every replica through the gateways, and says which should leave first.

Stateless: everything it knows comes from the last poll, so it may be restarted at any time, and serving never waits
for it (docs/decisions/001-status-by-polling.md).
"""
