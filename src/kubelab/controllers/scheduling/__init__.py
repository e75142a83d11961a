"""Which node a pod goes to: filters, scores, preemption, and the controller that asks them."""
