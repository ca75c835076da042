"""Several verifiers, tried in the order of auth.verifiers: whoever knows the token first says who it is."""

from collections.abc import Awaitable, Sequence

from .identity import CLAIMS, Identity, MayAsk, TokenRefused, TokenVerifier, VerifierUnavailable, freely


class VerifierChain:
    """One verifier made of several. A token that one of them finds genuine and yet not good is not shown to the others,
    and of all refusals the one that came nearest is told; before it, that one of them could not be asked."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self._verifiers = verifiers

    @property
    def asks(self) -> bool:
        """Does one of them?"""
        return any(verifier.asks for verifier in self._verifiers)

    def was_refused(self, token: str, now_s: float) -> bool:
        """Was it, by the one that it is for? A verifier that does not read tokens of its form has no say."""
        return any(verifier.was_refused(token, now_s) for verifier in self._verifiers)

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """Was it, by one of them?"""
        return any(verifier.has_refused(token_hash, now_s) for verifier in self._verifiers)

    def verify(self, token: str, now_s: float, may_ask: MayAsk = freely) -> Identity | Awaitable[Identity]:
        """The identity behind `token` at unix second `now_s`; later only when one had to ask. Errors: TokenRefused,
        VerifierUnavailable."""
        refusals: list[TokenRefused] = []
        for at, verifier in enumerate(self._verifiers, start=1):
            try:
                answer = verifier.verify(token, now_s, may_ask)
            except TokenRefused as refused:
                _note(refused, refusals)
                continue
            return answer if isinstance(answer, Identity) else self._go_on(answer, at, token, now_s, may_ask, refusals)
        raise _told(refusals)

    async def _go_on(
        self,
        answer: Awaitable[Identity],
        at: int,
        token: str,
        now_s: float,
        may_ask: MayAsk,
        refusals: list[TokenRefused],
    ) -> Identity:
        try:
            return await answer
        except TokenRefused as refused:
            _note(refused, refusals)
        for verifier in self._verifiers[at:]:
            try:
                later = verifier.verify(token, now_s, may_ask)
                return later if isinstance(later, Identity) else await later
            except TokenRefused as refused:
                _note(refused, refusals)
        raise _told(refusals)


def _note(refused: TokenRefused, refusals: list[TokenRefused]) -> None:
    if refused.came == CLAIMS:
        raise refused
    refusals.append(refused)


def _told(refusals: list[TokenRefused]) -> TokenRefused:
    # the first of the nearest: max keeps the order of equals
    return max(refusals, key=lambda refused: (isinstance(refused, VerifierUnavailable), refused.came))
