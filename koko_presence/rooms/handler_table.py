"""Finds the handler of a command or message by its type. Handlers register themselves with a decorator."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])


class HandlerTable:
    """Handlers by the type of what they handle; written while the modules with the handlers are imported."""

    def __init__(self) -> None:
        self._handlers: dict[type, Callable[..., Any]] = {}

    def handles(self, kind: type) -> Callable[[Handler], Handler]:
        """Register the decorated function or method for objects of type `kind`. Errors: TypeError when there is one."""

        def register(handler: Handler) -> Handler:
            if kind in self._handlers:
                raise TypeError(f"{kind.__name__} has two handlers")
            self._handlers[kind] = handler
            return handler

        return register

    @property
    def functions(self) -> Mapping[type, Callable[..., Any]]:
        """The registered functions."""
        return self._handlers

    def methods_of(self, instance: object) -> dict[type, Callable[..., Any]]:
        """Return the registered methods of a class, bound to `instance`. They are looked up by their names, so that a
        subclass or a test may replace one."""
        return {kind: getattr(instance, handler.__name__) for kind, handler in self._handlers.items()}
