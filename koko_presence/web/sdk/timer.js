/** The worker of worker-timer.js as a file, for pages whose policy forbids workers from data addresses. */
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
onmessage = ({ data: ms }) => {
  clearTimeout(timer);
  if (ms) timer = setTimeout(postMessage, ms, 0);
};
