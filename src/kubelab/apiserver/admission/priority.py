"""A pod's priority is the number of its PriorityClass.

Comes in: a new pod. Goes out: the pod with priority and preemption policy; Forbidden for an unknown class or a number
of the user's own. Source: Kubernetes documentation "Pod Priority and Preemption".
"""

from kubelab.apiserver.admission.base import Object, Plugin, Write
from kubelab.apiserver.errors import forbidden

PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"


class PriorityAdmission(Plugin):
    handles = frozenset({"pods"})

    def mutate(self, write: Write) -> None:
        spec = write.obj.get("spec")
        if not write.creates or not isinstance(spec, dict):
            return
        chosen = self._class(write, spec.get("priorityClassName") or "")
        value = int(chosen.get("value", 0))
        own = spec.get("priority")
        if own is not None and own != value:
            raise _forbidden(
                write,
                f"the integer value of priority ({own}) must not be provided in pod spec; priority admission "
                f"controller computed {value} from the given PriorityClass name",
            )
        policy = chosen.get("preemptionPolicy") or "PreemptLowerPriority"
        if spec.get("preemptionPolicy") not in (None, policy):
            raise _forbidden(
                write,
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name",
            )
        spec["priority"], spec["preemptionPolicy"] = value, policy
        if "metadata" in chosen:
            spec["priorityClassName"] = chosen["metadata"]["name"]

    def _class(self, write: Write, name: str) -> Object:
        if name:
            found = write.store.peek(PRIORITY_CLASSES, name)
            if found is None:
                raise _forbidden(write, f"no PriorityClass with name {name} was found")
            return found
        defaults = [c for c in write.store.peek_all(PRIORITY_CLASSES) if c.get("globalDefault")]
        return min(defaults, key=lambda c: int(c.get("value", 0)), default={})


def _forbidden(write: Write, why: str) -> Exception:
    return forbidden(group="", plural="pods", name=write.obj["metadata"].get("name", ""), why=why)
