"""Combines several verifiers into one: they are tried in the order of `auth.verifiers` until one accepts the token."""

from collections.abc import Awaitable, Sequence

from .identity import CLAIMS, Identity, MayQuery, TokenRefused, TokenVerifier, VerifierUnavailable, unlimited


class VerifierChain:
    """One verifier made of several. A token that one of them refuses for its claims is not passed to the others. When
    all refuse, the error is a `VerifierUnavailable` if there is one, otherwise the refusal that got furthest."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self._verifiers = verifiers

    @property
    def is_remote(self) -> bool:
        """True when one of the verifiers does."""
        return any(verifier.is_remote for verifier in self._verifiers)

    def was_refused(self, token: str, now_s: float) -> bool:
        """Return True when one verifier has refused it; verifiers for tokens of another form return False."""
        return any(verifier.was_refused(token, now_s) for verifier in self._verifiers)

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """Return True when one verifier has refused it."""
        return any(verifier.has_refused(token_hash, now_s) for verifier in self._verifiers)

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity | Awaitable[Identity]:
        """Return the identity of `token` at unix second `now_s`, as an awaitable only when a verifier sends a request.
        Errors: `TokenRefused`, `VerifierUnavailable`."""
        refusals: list[TokenRefused] = []
        for at, verifier in enumerate(self._verifiers, start=1):
            try:
                answer = verifier.verify(token, now_s, may_query)
            except TokenRefused as refused:
                _note(refused, refusals)
                continue
            return (
                answer if isinstance(answer, Identity) else self._go_on(answer, at, token, now_s, may_query, refusals)
            )
        raise _decisive(refusals)

    async def _go_on(
        self,
        answer: Awaitable[Identity],
        at: int,
        token: str,
        now_s: float,
        may_query: MayQuery,
        refusals: list[TokenRefused],
    ) -> Identity:
        try:
            return await answer
        except TokenRefused as refused:
            _note(refused, refusals)
        for verifier in self._verifiers[at:]:
            try:
                later = verifier.verify(token, now_s, may_query)
                return later if isinstance(later, Identity) else await later
            except TokenRefused as refused:
                _note(refused, refusals)
        raise _decisive(refusals)


def _note(refused: TokenRefused, refusals: list[TokenRefused]) -> None:
    if refused.came == CLAIMS:
        raise refused
    refusals.append(refused)


def _decisive(refusals: list[TokenRefused]) -> TokenRefused:
    # of equals max returns the first
    return max(refusals, key=lambda refused: (isinstance(refused, VerifierUnavailable), refused.came))
