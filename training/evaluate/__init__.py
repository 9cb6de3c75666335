"""How good are the masks: scores, intervals, a fixed damage to repair, and the command."""
