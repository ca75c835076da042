// Peer: Node with the ws library: node node_ws.js PORT
const { WebSocketServer } = require("../../build/peers/node_modules/ws");
const { newSession, userOf, authenticated, joined, moved } = require("./wire.js");

const rooms = new Map();
const options = { host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096, perMessageDeflate: false };
const server = new WebSocketServer(options);

server.on("connection", (ws) => {
  const session = newSession();
  let room = { seq: 0, members: new Set() };
  ws.on("message", (data) => {
    const message = JSON.parse(data);
    if (message.type === "cursor") {
      const event = Buffer.from(moved(message, session, ++room.seq)); // encoded once, not once per member
      for (const member of room.members) if (member !== ws) member.send(event, { binary: false });
    } else if (message.type === "auth") {
      session.userId = userOf(message.token);
      ws.send(authenticated(session));
    } else if (message.type === "join") {
      if (!rooms.has(message.roomId)) rooms.set(message.roomId, room);
      room = rooms.get(message.roomId);
      room.members.add(ws);
      ws.send(joined(message.roomId));
    }
  });
  ws.on("error", () => ws.terminate());
  ws.on("close", () => room.members.delete(ws));
});
