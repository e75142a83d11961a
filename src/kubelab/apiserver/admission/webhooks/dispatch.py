"""Webhooks are asked about a write.

Comes in: writes between their steps. Goes out: the object as mutating webhooks patched it; ApiErrors for refusals, and
for webhooks that cannot be asked and whose failurePolicy is Fail. Mutating webhooks are asked one after the other;
those with reinvocationPolicy IfNeeded once more when somebody behind them changed the object. Validating ones are asked
all at once. Source: Kubernetes documentation "Dynamic Admission Control".
"""

import asyncio
from collections.abc import Sequence

import structlog

from kubelab.apiserver.admission.base import CONNECT, CREATE, DELETE, Mutation, Object, Write
from kubelab.apiserver.admission.conditions import Conditions
from kubelab.apiserver.admission.webhooks.configurations import Configurations, Hook
from kubelab.apiserver.admission.webhooks.reviews import Verdict, request_of, review_of, verdict
from kubelab.apiserver.copies import clone
from kubelab.apiserver.custom_conversion import Conversions
from kubelab.apiserver.decoding import Cleaner
from kubelab.apiserver.errors import ApiError, BadRequest, forbidden, internal
from kubelab.apiserver.patches import json_patch
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.base import Strategies
from kubelab.apiserver.users import warn
from kubelab.apiserver.webhooks.client import CallError, WebhookClient

log = structlog.get_logger(__name__)

_KEPT = ("uid", "resourceVersion", "namespace", "creationTimestamp", "managedFields", "generation", "deletionTimestamp")
"""What of metadata no webhook changes."""


class WebhookAdmission:
    def __init__(
        self,
        store: Store,
        client: WebhookClient,
        conversions: Conversions,
        strategies: Strategies,
        conditions: Conditions,
    ) -> None:
        self._client, self._conversions = client, conversions
        self._strategies, self._conditions = strategies, conditions
        self._configurations = Configurations(store)

    def concern(self, write: Write) -> bool:
        known = self._configurations
        return not known.none and bool(known.mutating(write) or known.validating(write))

    async def mutate(self, write: Write) -> Mutation:
        rounds = Rounds(self, write, self._configurations.mutating(write))
        await rounds.run()
        return rounds

    async def validate(self, write: Write) -> None:
        hooks = [
            (hook, version) for hook in self._configurations.validating(write) if (version := self.meant(hook, write))
        ]
        results = await asyncio.gather(
            *(self.ask(hook, write, version, mutates=False) for hook, version in hooks), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def meant(self, hook: Hook, write: Write) -> str | None:
        """The version in which the webhook wants to see the write, None if it does not. Raises Forbidden for conditions
        that cannot be told."""
        version = hook.match.version(write)
        if version is None or not hook.conditions:
            return version
        try:
            holds = self._conditions.hold(hook.conditions, write, version, fails=not hook.ignores_failure)
        except ValueError as error:
            resource = write.resource
            raise forbidden(group=resource.group, plural=resource.plural, name=write.target, why=str(error)) from error
        return version if holds else None

    async def ask(self, hook: Hook, write: Write, version: str, *, mutates: bool) -> bool:
        """Whether it changed the object. Raises ApiError."""
        if write.dry_run and hook.spec.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        try:
            answer, seen = await self._verdict(hook, write, version, mutates=mutates)
        except (CallError, ValueError) as error:
            text = f'failed calling webhook "{hook.name}": {error}'
            log.warning("webhook failed", ignored=hook.ignores_failure, why=text)
            if hook.ignores_failure:
                return False
            raise internal(text) from error
        for text in answer.warnings:
            warn(text)
        if answer.refusal is not None:
            log.info("refused by a webhook", webhook=hook.name, why=answer.refusal.message)
            raise answer.refusal
        if not answer.patch:
            return False
        if seen is None:
            why = "attempted to modify the object, which is not supported for this operation"
            raise internal(f'admission webhook "{hook.name}" {why}')
        return await self._patched(write, seen, answer, version)

    async def _verdict(self, hook: Hook, write: Write, version: str, *, mutates: bool) -> tuple[Verdict, Object | None]:
        """And the object that was shown. Raises CallError, ValueError."""
        shown = None if write.verb == DELETE else await self._shown(write, write.obj, version)
        old = None if write.old is None else await self._shown(write, write.old, version)
        review = review_of(request_of(write, version, shown, old), hook.spec.get("admissionReviewVersions") or ("v1",))
        try:
            timeout = int(hook.spec.get("timeoutSeconds") or 10)
            answer = await self._client.call(hook.spec["clientConfig"], review, timeout=timeout)
        except CallError as error:
            raise CallError(f"failed to call webhook: {error}") from error
        try:
            return verdict(hook.name, review, answer, mutates=mutates), shown
        except ValueError as error:
            raise ValueError(f"received invalid webhook response: {error}") from error

    async def _shown(self, write: Write, obj: Object, version: str) -> Object:
        if write.verb == CONNECT or write.subresource not in ("", "status") or not write.resource.custom:
            return obj
        return (await self._conversions.convert(write.resource, [obj], version))[0]

    async def _patched(self, write: Write, seen: Object, answer: Verdict, version: str) -> bool:
        try:
            made = json_patch(seen, answer.patch)
        except ApiError as error:
            raise internal(error.causes[0].message if error.causes else error.message) from error
        stores = write.subresource in ("", "status") and write.verb != CONNECT
        if stores and write.resource.custom:
            made = (await self._conversions.convert(write.resource, [made], write.resource.storage_version))[0]
        if stores:
            made = _cleaned(write, made, self._strategies)
        if made == write.obj:
            return False
        write.obj.clear()
        write.obj.update(made)
        return True


class Rounds:
    """The mutating webhooks of one write: all of them, then once more those who want to see what others changed."""

    def __init__(self, admission: WebhookAdmission, write: Write, hooks: Sequence[Hook]) -> None:
        self._admission, self._write, self._hooks = admission, write, hooks
        self._asked: list[str] = []
        self._wanted: set[str] = set()
        self._output: Object = {}
        self.changed = False

    async def run(self, *, only: frozenset[str] | None = None) -> None:
        for hook in self._hooks:
            version = self._admission.meant(hook, self._write)
            if version is None or (only is not None and hook.uid not in only):
                continue
            if await self._admission.ask(hook, self._write, version, mutates=True):
                self.changed = True
                self._wanted.update(self._asked)
            if hook.reinvoked:
                self._asked.append(hook.uid)
        self._output = clone(self._write.obj)

    async def again(self) -> None:
        if self._write.obj != self._output:
            # What this server does by itself has changed it too.
            self._wanted.update(self._asked)
        if self._wanted:
            await self.run(only=frozenset(self._wanted))


def _cleaned(write: Write, made: Object, strategies: Strategies) -> Object:
    """Without unknown fields, and with what a webhook may not change. Raises InternalError for wrong types."""
    try:
        cleaned: Object = Cleaner(write.resource.kind).clean(made, strategies(write.resource).node)
    except BadRequest as error:
        raise internal(error.message) from error
    own, before = cleaned.setdefault("metadata", {}), write.obj["metadata"]
    for name in (*_KEPT, *(() if write.verb == CREATE and not before.get("name") else ("name",))):
        own.pop(name, None)
        if name in before:
            own[name] = before[name]
    return cleaned
