"""The gateway. Of its modules, too, the busiest run compiled: `coxswain_scheduler` sees to that."""

from coxswain_scheduler import compiled as compiled
