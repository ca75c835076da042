/** Listeners per event. A listener that throws does not affect the others; one that is added twice is called twice. */

export function createEvents() {
  const all = new Map();
  return {
    on(type, listener) {
      const entry = [listener]; // one per call, so that a listener added twice is called twice
      if (!all.has(type)) all.set(type, new Set());
      all.get(type).add(entry);
      return () => void all.get(type).delete(entry);
    },
    emit(type, event) {
      for (const [listener] of [...(all.get(type) ?? [])]) {
        try {
          listener(event);
        } catch (error) {
          (globalThis.reportError ?? console.error)(error);
        }
      }
    },
  };
}
