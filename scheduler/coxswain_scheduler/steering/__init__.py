"""What the policy `coxswain` is made of: the engines' `roles`, `prompts` on their way to an engine, and `decodes`.

Each layer knows those before it: where decodes go depends on which prompts could go there, not the other way round.
"""

from coxswain_scheduler.steering.decodes import Decodes
from coxswain_scheduler.steering.prompts import Prompts
from coxswain_scheduler.steering.roles import TYPICAL_PROMPT, Roles

__all__ = ["TYPICAL_PROMPT", "Decodes", "Prompts", "Roles"]
