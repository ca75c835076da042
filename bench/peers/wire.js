// Shared by the JavaScript peers: the replies, and the event with the fields and about the size of this server's.
const { randomBytes } = require("node:crypto");

const COLOR = "#6366F1";

const newSession = () => ({ userId: "", sessionId: randomBytes(16).toString("base64url"), room: "" });

// The `sub` of a token, unverified.
const userOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url")).sub;

const authenticated = ({ userId, sessionId }) => JSON.stringify({ type: "authenticated", userId, sessionId });

const joined = (roomId) => JSON.stringify({ type: "joined", roomId, seq: 0 });

const moved = (message, { userId, sessionId }, seq) =>
  JSON.stringify({
    type: "cursor_moved",
    roomId: message.roomId,
    userId,
    sessionId,
    data: { ...message.data, color: COLOR },
    timestamp: new Date().toISOString(),
    seq,
  });

module.exports = { newSession, userOf, authenticated, joined, moved };
