// Peer: Bun's server (uWebSockets) with topics: bun bun_server.js PORT
const { newSession, userOf, authenticated, joined, moved } = require("./wire.js");

const seqs = new Map();

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch(request, server) {
    if (!server.upgrade(request, { data: newSession() })) return new Response("a WebSocket server", { status: 404 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    message(ws, text) {
      const message = JSON.parse(text);
      const session = ws.data;
      if (message.type === "cursor") {
        const seq = seqs.get(session.room) + 1;
        seqs.set(session.room, seq);
        ws.publish(session.room, moved(message, session, seq)); // to all sockets but this one
      } else if (message.type === "auth") {
        session.userId = userOf(message.token);
        ws.send(authenticated(session));
      } else if (message.type === "join") {
        session.room = message.roomId;
        if (!seqs.has(session.room)) seqs.set(session.room, 0);
        ws.subscribe(session.room);
        ws.send(joined(session.room));
      }
    },
  },
});
