"""The scheduler: pure decisions. Its busiest modules run compiled where `compiled` finds them so."""

from coxswain_scheduler import compiled

compiled.prefer()
