/** Control of the room's playback: who has it, who requests it, and the calls that change it [I]. */

/**
 * @import { MediaContext } from "./media-context.js"
 * @import { RoomMessage } from "./messages.js"
 */

export class Control {
  #context;

  /** @param {Pick<MediaContext, "store" | "ask">} context */
  constructor(context) {
    this.#context = context;
  }

  request() {
    return this.#context.ask("control_request");
  }

  cancelRequest() {
    return this.#context.ask("control_cancel");
  }

  /** @param {string} toUserId */
  grant(toUserId) {
    return this.#context.ask("control_grant", { toUserId });
  }

  /** @param {string} toUserId */
  deny(toUserId) {
    return this.#context.ask("control_deny", { toUserId });
  }

  release() {
    return this.#context.ask("control_release");
  }

  /** @param {RoomMessage} message */
  receive(message) {
    const { store } = this.#context;
    switch (message.type) {
      case "user_left":
        if (!message.data.sessionCount) this.#removeRequest(message.userId);
        break;
      case "control_requested": {
        const { userId, timestamp: requestedAt, data: { requesterName } } = message;
        this.#removeRequest(userId);
        store.patch({ requests: [...store.snapshot.requests, { userId, requesterName, requestedAt }] });
        break;
      }
      case "control_granted": {
        const { toUserId: controller, controllerSessionId } = message.data;
        this.#removeRequest(controller);
        store.patch({ controller, controllerSessionId });
        break;
      }
      case "control_denied":
        this.#removeRequest(message.data.toUserId);
        break;
      case "control_released":
        store.patch({ controller: null, controllerSessionId: null });
    }
  }

  /** @param {string} requester A user id. */
  #removeRequest(requester) {
    const { store } = this.#context;
    const requests = store.snapshot.requests.filter(({ userId }) => userId !== requester);
    if (requests.length < store.snapshot.requests.length) store.patch({ requests });
  }
}
