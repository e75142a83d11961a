"""The order in which authorizers are asked: masters may everything, then kubelets' rights, then RBAC.

Comes in: attributes. Goes out: a decision; `check` raises Forbidden in the words of the real server.
"""

from collections.abc import Iterable

from kubelab.apiserver.authorization.attributes import Attributes, Authorizer, Decision, refusal
from kubelab.apiserver.users import MASTERS


class Masters:
    """The group system:masters, which no role can take anything from."""

    def decide(self, attributes: Attributes) -> Decision:
        return Decision(MASTERS in attributes.user.groups)


class Chain:
    """The first that allows decides; what the others said on the way is the reason of the refusal."""

    def __init__(self, authorizers: Iterable[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def decide(self, attributes: Attributes) -> Decision:
        reasons = []
        for authorizer in self._authorizers:
            decision = authorizer.decide(attributes)
            if decision.allowed:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(False, ", ".join(reasons))

    def check(self, attributes: Attributes) -> None:
        decision = self.decide(attributes)
        if not decision.allowed:
            raise refusal(attributes, decision.reason)
